"""Label files of other tools: YOLO, VOC, COCO with gaps in its ids, masks, tables. Each gives the
same pictures and boxes, its metric says 100 for the truth, and faults have their file and line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qatspec.api import DiagnosticError
from qatspec.registry import registry
from tests import sets

RNG = np.random.default_rng(0)
KINDS: dict[str, tuple[Any, str, dict[str, Any]]] = {
    "yolo": (sets.yolo, "yolo_detection", {}),
    "yolo, another layout": (
        lambda root: sets.yolo(root, "{split}/images", "{split}/labels"),
        "yolo_detection",
        {"images": "{split}/images", "labels": "{split}/labels", "classes": list(sets.NAMES)},
    ),
    "yolo, side by side": (
        lambda root: sets.yolo(root, "{split}", "{split}"),
        "yolo_detection",
        {"images": "{split}", "labels": "{split}"},
    ),
    "voc": (sets.voc, "voc_detection", {"classes": list(sets.NAMES)}),
    "voc, flat": (
        lambda root: sets.voc(root, flat=True),
        "voc_detection",
        {"images": "{split}", "annotations": "{split}", "list": None, "classes": list(sets.NAMES)},
    ),
    "coco": (sets.coco, "coco_detection", {}),
    "masks": (sets.masks, "mask_segmentation", {}),
    "coloured masks": (
        lambda root: sets.masks(root, coloured=True),
        "mask_segmentation",
        {"classes": "classes.csv"},
    ),
    "table": (sets.table, "csv_classification", {"images": "pictures"}),
    "folders": (sets.imagefolder, "imagefolder_classification", {}),
}
DETECTION = [kind for kind in KINDS if kind.startswith(("yolo", "voc", "coco"))]


def definition(kind: str) -> Any:
    return registry().dataset(KINDS[kind][1])


def params_of(kind: str, **more: Any) -> dict[str, Any]:
    from qatspec.schema import with_defaults

    given = {"root": ".", "split": "train", "size": [32, 48], "mean": 0, "std": 1}
    return with_defaults(definition(kind).params, {**given, **KINDS[kind][2], **more})


def opened(kind: str, root: Path, **more: Any) -> Any:
    return definition(kind).open(params_of(kind, **more), root / "cache", root)


def refused(kind: str, root: Path, **more: Any) -> Any:
    with pytest.raises(DiagnosticError) as caught:
        opened(kind, root, **more)
    return caught.value.diagnostics


@pytest.fixture(params=list(KINDS))
def kind(request: Any) -> str:
    return str(request.param)


@pytest.fixture
def root(kind: str, tmp_path: Path) -> Path:
    KINDS[kind][0](tmp_path)
    return tmp_path


def perfect(data: Any) -> list[tuple[Any, Any]]:
    """What a model that knows the truth predicts."""
    found = []
    for index in range(len(data)):
        sample = data.sample(index, np.random.default_rng(0))
        target = dict(sample.target)
        if "boxes" in target:
            target["scores"] = np.ones(len(target["boxes"]))
        if "mask" in target:
            target["mask"] = np.where(target["mask"] == 255, 0, target["mask"]).astype(np.uint8)
        if "label" in target:
            scores = np.zeros(len(data.classes))
            scores[int(target["label"])] = 1
            target["scores"] = scores
        found.append((sample.meta, target))
    return found


def test_the_truth_is_judged_as_perfect(kind: str, root: Path) -> None:
    for split in sets.SPLITS:
        data = opened(kind, root, split=split)
        assert len(data) == sets.SPLITS[split]
        assert data.diagnostics == ()
        metric = definition(kind).metric
        assert data.evaluate(perfect(data))[metric] == pytest.approx(100)
        worst = [
            (meta, {**p, "labels": (p["labels"] + 1) % 3} if "labels" in p else p)
            for meta, p in perfect(data)
        ]
        assert "labels" not in worst[0][1] or data.evaluate(worst)[metric] < 50


@pytest.mark.parametrize("resize", ["letterbox", "stretch"])
def test_the_truth_is_perfect_however_pictures_are_fitted(
    kind: str, root: Path, resize: str
) -> None:
    data = opened(kind, root, size=[64, 40], resize=resize, format="bgr", mean=[1.0, 2.0, 3.0])
    metric = definition(kind).metric
    found = perfect(data)
    least = 90 if metric == "mIoU" else 99.99  # a mask that was made smaller loses its edges
    assert data.evaluate(found)[metric] >= least
    image = data.sample(0, RNG).image
    assert image.shape == (3, 64, 40)
    padded = (np.abs(image[:, -1]) < 1).all()
    assert padded == (resize == "letterbox")
    assert np.array_equal(image, data.sample(0, RNG).image)


def test_a_mosaic_of_stretched_pictures(tmp_path: Path) -> None:
    sets.yolo(tmp_path)
    mixed = {"mosaic": 1.0, "scale": [0.5, 1.5], "flip": 0.5}
    data = opened("yolo", tmp_path, size=[64, 40], resize="stretch", augment=mixed)
    for seed in range(10):
        sample = data.sample(seed % 4, np.random.default_rng(seed))
        for box, label in zip(sample.target["boxes"], sample.target["labels"], strict=True):
            x1, y1, x2, y2 = box.round().astype(int)
            inside = sample.image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1]
            assert not inside.size or inside.mean((1, 2)).argmax() == label


def test_pictures_and_labels_are_those_that_were_drawn(kind: str, root: Path) -> None:
    data = opened(kind, root)
    names = list(data.classes)
    assert names == (["background", *sets.NAMES] if "mask" in kind else list(sets.NAMES)) or (
        sorted(names) == sorted(sets.NAMES)
    )
    by_colour = {}
    for index in range(len(data)):
        sample = data.sample(index, RNG)
        assert sample.image.shape == (3, 32, 48)
        target = sample.target
        if "boxes" in target:
            (box,), (label,) = target["boxes"], target["labels"]
            x1, y1, x2, y2 = box.round().astype(int)
            inside = sample.image[:, y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].mean((1, 2))
            assert any(np.allclose(box, one.box, atol=1e-3) for one in sets.drawn("train"))
        elif "mask" in target:
            (label,) = set(np.unique(target["mask"])) - {0}
            inside = sample.image[:, target["mask"] == label].mean(1)
        else:
            continue
        by_colour[names[int(label)]] = int(inside.argmax())
    assert all(sets.NAMES.index(name) == colour for name, colour in by_colour.items())


def test_the_fingerprint_is_of_contents(kind: str, root: Path, tmp_path_factory: Any) -> None:
    fingerprint, params = definition(kind).fingerprint, params_of(kind)
    first = fingerprint(params, root)
    other = tmp_path_factory.mktemp("other") / "place"
    shutil.copytree(root, other)
    assert fingerprint(params, other) == first
    labels = [
        path
        for path in sorted(other.rglob("*"))
        if path.suffix in (".txt", ".xml", ".csv", ".json", ".png", ".jpg")
        and ("train" in str(path.relative_to(other)) or path.name == "labels.csv")
    ]
    others = [path for path in labels if path.suffix != ".jpg"]
    for path in (*others[:1], next(p for p in labels if p.suffix == ".jpg")):
        if path.suffix in (".png", ".jpg"):
            Image.fromarray(np.ones((32, 48), np.uint8)).save(path)
        else:
            text = path.read_text()
            path.write_text(text.replace("cat", "dog") if "cat" in text else text.replace("0", "1"))
        second = fingerprint(params, other)
        assert second != first
        first = second


def test_classes_are_told_without_opening(kind: str, root: Path) -> None:
    told = definition(kind).classes(params_of(kind), root)
    assert told is None or list(told) == list(opened(kind, root).classes)


def test_a_set_without_splits_is_parted_by_names(kind: str, root: Path) -> None:
    """The two parts are all pictures, each once, and the digests differ."""
    parts = {part: opened(kind, root, part=part) for part in ("train", "val")}
    ids = {part: [m["id"] for m, _ in perfect(data)] for part, data in parts.items()}
    assert ids["train"] and ids["val"]
    every = [meta["id"] for meta, _ in perfect(opened(kind, root))]
    if not kind.startswith(("yolo", "voc")):  # whose ids are places in the part
        assert sorted(ids["train"] + ids["val"]) == sorted(every)
    assert len(ids["train"] + ids["val"]) == len(every)
    assert list(parts["train"].classes) == list(parts["val"].classes)
    fingerprint = definition(kind).fingerprint
    digests = {fingerprint(params_of(kind, part=part), root) for part in ("train", "val")}
    assert len(digests) == 2


def test_a_picture_stays_in_its_part() -> None:
    from qatspec_vision.data.files import chosen_part

    few, many = [[f"{n}.jpg" for n in range(count)] for count in (100, 1000)]
    held = {count: chosen_part(names, {"part": "val"}) for count, names in ((0, few), (1, many))}
    assert held[0] == held[1] & set(few) and 10 <= len(held[0]) <= 30
    parts = [chosen_part(["a", "b"], {"part": part}) for part in ("train", "val")]
    assert sorted(map(len, parts)) == [1, 1] and parts[0] != parts[1]
