"""Made-up sets: a few pictures of plain shapes in each standard layout, so that a spec can be run
from end to end where its data is not at hand. Metrics on them mean nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from qatspec.api import Diagnostic, codes, folder_being_made
from qatspec_vision.data.cityscapes_layout import LABEL_IDS
from qatspec_vision.data.files import made_up_digest

#: (height, width) of every picture, and its objects
SIZE, OBJECTS = (96, 128), 3
#: Classes that occur, beside the background of a segmentation, and those that a COCO file lists. A
#: data set does not know the model, and every model has this one class.
CLASSES, CATEGORIES = 1, 80

Draw = Callable[[Path, str, int], None]


def build(params: Mapping[str, Any], cache_dir: Path, draw: Draw) -> tuple[dict[str, Any], Path]:
    """Draw `params["made_up"]` pictures with `draw` into a folder below cache_dir, unless they are
    there; the params that open them, and the folder that these are relative to."""
    count, split = params["made_up"], params.get("split", "made_up")
    folder = cache_dir / f"made-up-{draw.__name__}-{made_up_digest(params)[:16]}"
    if not folder.is_dir():
        with folder_being_made(folder) as unfinished:
            draw(unfinished, split, count)
    rest = {
        k: v for k, v in params.items() if k not in ("made_up", "annotations", "images", "index")
    }
    return {**rest, "root": ".", "split": split}, folder


def told(params: Mapping[str, Any]) -> tuple[Diagnostic, ...]:
    """The warning that a made-up set comes with."""
    return (
        codes.QS916.warning(
            f"{params['made_up']} made-up pictures take the place of "
            f"`{params.get('root', '')}`: metrics mean nothing",
            help="leave `made_up` out (and `--smoke`) to run on the data itself",
        ),
    )


def coco(root: Path, split: str, count: int) -> None:
    """annotations/instances_<split>.json and <split>/*.png."""
    table = root / "annotations" / f"instances_{split}.json"
    for folder in (root / split, table.parent):
        folder.mkdir(parents=True)
    content: dict[str, list[dict[str, Any]]] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": f"shape {n}"} for n in range(1, CATEGORIES + 1)],
    }
    for index in range(count):
        image, _, objects = _picture(split, index)
        name = f"{index:012d}.png"
        image.save(root / split / name)
        height, width = SIZE
        content["images"].append({"id": index, "file_name": name, "height": height, "width": width})
        for label, box in objects:
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": index,
                    "category_id": label + 1,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
            )
    table.write_text(json.dumps(content), encoding="utf-8")


def cityscapes(root: Path, split: str, count: int) -> None:
    """leftImg8bit/<split>/made_up/*.png and gtFine/<split>/made_up/*.png, both kinds of labels."""
    pictures, labels = (root / part / split / "made_up" for part in ("leftImg8bit", "gtFine"))
    pictures.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index in range(count):
        image, train_ids, _ = _picture(split, index)
        name = f"made_up_{index:06d}_000000"
        image.save(pictures / f"{name}_leftImg8bit.png")
        train_ids.save(labels / f"{name}_gtFine_labelTrainIds.png")
        train_ids.point([*LABEL_IDS, *[0] * (256 - len(LABEL_IDS))]).save(
            labels / f"{name}_gtFine_labelIds.png"
        )


def imagefolder(root: Path, split: str, count: int) -> None:
    """<split>/<class>/*.png."""
    for index in range(count):
        image, _, _ = _picture(split, index)
        folder = root / split / f"class_{index % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{index:06d}.png")


def _picture(
    split: str, index: int
) -> tuple[Image.Image, Image.Image, list[tuple[int, list[float]]]]:
    """A picture, its map of classes, and (class, box x, y, w, h) of its rectangles."""
    rng = np.random.default_rng([index, *split.encode()])
    height, width = SIZE
    noise = rng.integers(96, 160, (height, width, 3), dtype=np.uint8)
    image, classes = Image.fromarray(noise), Image.new("L", (width, height))
    objects = []
    for _ in range(OBJECTS):
        label = int(rng.integers(CLASSES))
        w, h = (int(rng.integers(side // 6, side // 2)) for side in (width, height))
        x, y = int(rng.integers(width - w)), int(rng.integers(height - h))
        colour = tuple(255 if channel == label else 32 for channel in range(3))
        corners = (x, y, x + w - 1, y + h - 1)
        ImageDraw.Draw(image).rectangle(corners, fill=colour)
        ImageDraw.Draw(classes).rectangle(corners, fill=label + 1)
        objects.append((label, [float(v) for v in (x, y, w, h)]))
    return image, classes, objects
