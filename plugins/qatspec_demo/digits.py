"""Real handwritten digits drawn on pictures, in COCO's format: the data set `digits_detection`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from qatspec_vision.data.coco import CocoDetection
from qatspec_vision.data.detection import loader_options
from qatspec_vision.data.layout import Layout

from qatspec.api import folder_being_made
from qatspec_demo.draw import draw_picture
from qatspec_demo.identity import DRAWN_BY, fingerprint
from qatspec_demo.scans import load_scans


def open_digits(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> CocoDetection:
    """Draw the set into cache_dir unless it is there, and read it as any COCO set.

    Raises DiagnosticError QS915 without scikit-learn."""
    folder = cache_dir / f"digits-{fingerprint(params, base_dir)[:16]}"
    if not folder.is_dir():
        _build(folder, **{name: params[name] for name in DRAWN_BY})
    layout = Layout(folder / "annotations.json", folder / "pictures")
    return CocoDetection(layout, **loader_options(params))


def _build(
    folder: Path,
    split: str,
    images: int,
    picture: int,
    digits: tuple[int, int],
    height: tuple[int, int],
    seed: int,
) -> None:
    """Draw all pictures into `folder`, which is whole or absent."""
    with folder_being_made(folder) as unfinished:
        (unfinished / "pictures").mkdir()
        scans = load_scans(split)
        coco: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
        }
        for index in range(images):
            rng = np.random.default_rng((seed, index))
            drawn = draw_picture(scans, picture, digits, height, rng)
            name = f"{index:06d}.png"
            Image.fromarray(drawn.pixels).save(unfinished / "pictures" / name, compress_level=1)
            coco["images"].append(
                {"id": index, "file_name": name, "width": picture, "height": picture}
            )
            coco["annotations"] += [
                {
                    "id": len(coco["annotations"]) + number,
                    "image_id": index,
                    "category_id": label,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": 0,
                }
                for number, (box, label) in enumerate(
                    zip(drawn.boxes, drawn.labels, strict=True), start=1
                )
            ]
        (unfinished / "annotations.json").write_text(json.dumps(coco), encoding="utf-8")
