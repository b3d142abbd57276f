"""COCO's average precision: CPU time and agreement of three programs.

    python tests/bench/evaluation.py [--images 5000] [--data FOLDER]

Compares qatspec_vision.data.metric (which calls hotcoco, where it is installed) with pycocotools
and, where it is installed, faster-coco-eval: on made pictures (7 objects and 100 detections in
each, 80 classes), and with --data on the objects of FOLDER/annotations/instances_val.json with
shifted copies of them as detections. Prints a row for each program: CPU seconds, and the
largest difference of a statistic to pycocotools.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from qatspec_vision.data.metric import Detections, Objects, average_precision

#: Our names of some of the twelve statistics of pycocotools, and their places.
STATISTICS = {"AP": 0, "AP50": 1, "AP75": 2, "AP_small": 3, "AP_medium": 4, "AP_large": 5, "AR": 8}
FASTER = "faster_coco_eval"


class Case(NamedTuple):
    """What is judged: `classes` classes in `images` pictures."""

    true: Objects
    found: Detections
    images: int
    classes: int


def made(seed: int, images: int, classes: int, objects: float, detections: int) -> Case:
    """Objects and detections near them or anywhere.

    Some objects are crowds or equal to another one, some have an area on the border of a range, and
    some scores are equal."""
    rng = np.random.default_rng(seed)
    count = rng.poisson(objects, images)
    image = np.repeat(np.arange(images), count)
    total = len(image)
    label = (image * 7 + rng.integers(0, min(classes, 3), total)) % classes
    box = np.concatenate(
        [rng.uniform(0, 400, (total, 2)), rng.lognormal(3.8, 1.0, (total, 2)).clip(2, 400)], axis=1
    )
    copied = np.flatnonzero((rng.random(total) < 0.1) & (np.roll(image, 1) == image))
    box[copied], label[copied] = box[copied - 1], label[copied - 1]
    area = box[:, 2] * box[:, 3] * rng.choice([1.0, 0.6], total)
    border = rng.random(total) < 0.05
    area[border] = rng.choice([32.0**2, 96.0**2], border.sum())
    true = Objects(image, label, box, area, rng.random(total) < 0.03)

    image = np.repeat(np.arange(images), rng.integers(0, 2 * detections + 1, images))
    total = len(image)
    first = np.cumsum(count) - count
    near = (rng.random(total) < 0.6) & (count[image] > 0)
    target = (first[image] + rng.integers(0, 1 << 30, total) % np.maximum(count[image], 1))[near]
    label = rng.integers(0, classes, total)
    label[near] = true.label[target]
    box = np.concatenate(
        [rng.uniform(0, 400, (total, 2)), rng.lognormal(3.8, 1.0, (total, 2)).clip(2, 400)], axis=1
    )
    shift = rng.choice([0.0, 0.05, 0.2], near.sum())[:, None] * rng.normal(size=(near.sum(), 4))
    box[near] = true.box[target] + true.box[target][:, [2, 3, 2, 3]] * shift
    box[:, 2:] = box[:, 2:].clip(1)
    score = np.where(near, rng.beta(2, 3, total), rng.beta(1, 8, total))
    score = np.where(rng.random(total) < 0.3, score.round(1), score.astype(np.float32))
    return Case(true, Detections(image, label, box, score), images, classes)


def read(data: Path, seed: int) -> Case:
    """The objects of a set in COCO's layout; as detections three shifted copies of each, and as
    many boxes anywhere."""
    content = json.loads((data / "annotations/instances_val.json").read_text())
    images = {i: n for n, i in enumerate(sorted(image["id"] for image in content["images"]))}
    labels = {i: n for n, i in enumerate(sorted(c["id"] for c in content["categories"]))}
    rows = content["annotations"]
    true = Objects(
        np.array([images[row["image_id"]] for row in rows]),
        np.array([labels[row["category_id"]] for row in rows]),
        np.array([row["bbox"] for row in rows], np.float64),
        np.array([row["area"] for row in rows], np.float64),
        np.array([row["iscrowd"] for row in rows]) != 0,
    )
    rng = np.random.default_rng(seed)
    image, label, box = (np.concatenate([part] * 6) for part in true[:3])
    spread = np.repeat([0.05, 0.1, 0.2, 2.0, 3.0, 4.0], len(rows))[:, None]
    box = box + box[:, [2, 3, 2, 3]] * spread * rng.normal(size=box.shape)
    box[:, 2:] = box[:, 2:].clip(1)
    score = rng.random(len(box)) / (1 + spread[:, 0])
    return Case(true, Detections(image, label, box, score), len(images), len(labels))


def reference(case: Case, module: str = "pycocotools") -> list[float]:
    """The twelve statistics of pycocotools or of faster-coco-eval."""
    if module == FASTER:
        from faster_coco_eval import COCO, COCOeval_faster as COCOeval
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval

    def index(annotations: list[dict[str, Any]]) -> Any:
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": image} for image in range(case.images)],
            "categories": [{"id": label, "name": str(label)} for label in range(case.classes)],
            "annotations": [{**row, "id": n} for n, row in enumerate(annotations, start=1)],
        }
        coco.createIndex()
        return coco

    keys = ("image_id", "category_id", "bbox", "area", "iscrowd")
    true = [
        dict(zip(keys, (*row, int(crowd)), strict=True))
        for *row, crowd in zip(*(part.tolist() for part in case.true), strict=True)
    ]
    found = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score, "iscrowd": 0,
         "area": box[2] * box[3]}
        for image, label, box, score in zip(*(p.tolist() for p in case.found), strict=True)
    ]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(index(true), index(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats]


def expected(case: Case) -> dict[str, float]:
    """What average_precision should give, from pycocotools."""
    stats = reference(case)
    return {
        name: 100 * max(stats[place], 0.0)
        for name, place in STATISTICS.items()
        if stats[place] >= 0 or name in ("AP", "AP50")
    }


def judge(name: str, case: Case) -> dict[str, float]:
    """One program's statistics, 0-100."""
    if name == "qatspec":
        return average_precision(case.true, case.found, case.classes)
    stats = reference(case, name)
    return {key: 100 * stats[place] for key, place in STATISTICS.items() if stats[place] >= 0}


def compare(title: str, case: Case) -> None:
    print(f"{title}: {case.images} pictures, {len(case.true.image)} objects, "
          f"{len(case.found.image)} detections")  # fmt: skip
    print("| program | CPU seconds | AP | largest difference |\n|---|---|---|---|")
    programs = ["pycocotools", "qatspec"]
    programs += [FASTER] if importlib.util.find_spec(FASTER) else []
    results: dict[str, Mapping[str, float]] = {}
    for name in programs:
        start = time.process_time()
        results[name] = judge(name, case)
        seconds = time.process_time() - start
        truth = results["pycocotools"]
        off = max(abs(results[name][key] - value) for key, value in truth.items())
        print(f"| {name} | {seconds:.2f} | {results[name]['AP']:.2f} | {off:.1e} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--data", type=Path, help="a detection set in COCO's layout")
    given = parser.parse_args()
    compare("made", made(0, given.images, classes=80, objects=7, detections=100))
    if given.data is not None:
        compare(str(given.data.name), read(given.data, seed=0))


if __name__ == "__main__":
    main()
