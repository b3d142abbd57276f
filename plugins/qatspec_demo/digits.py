"""Real handwritten digits drawn on pictures, in COCO's format: the data set `digits_detection`."""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image
from qatspec_vision.data.coco import CocoDetection
from qatspec_vision.data.detection import loader_options
from qatspec_vision.data.layout import Layout

from qatspec.api import folder_being_made
from qatspec_demo.draw import draw_picture
from qatspec_demo.identity import DRAWN_BY, fingerprint
from qatspec_demo.scans import Scans, load_scans

#: Boxes (xywh in whole pixels) and labels of a picture.
Drawn: TypeAlias = tuple[list[list[int]], list[int]]
#: With fewer pictures, a process would take longer to start than it saves.
_PICTURES_A_PROCESS = 50
_PICTURES_A_CALL = 25
#: Elsewhere a process is started anew, and imports everything again.
_FORKS = hasattr(os, "sched_getaffinity") and "fork" in multiprocessing.get_all_start_methods()


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
        draw = partial(_draw, unfinished / "pictures", scans, picture, digits, height, seed)
        coco: dict[str, list[dict[str, Any]]] = {
            "images": [],
            "annotations": [],
            "categories": [{"id": digit, "name": str(digit)} for digit in range(10)],
        }
        for index, (boxes, labels) in enumerate(_in_parallel(draw, images)):
            coco["images"].append(
                {"id": index, "file_name": _name(index), "width": picture, "height": picture}
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
                for number, (box, label) in enumerate(zip(boxes, labels, strict=True), start=1)
            ]
        (unfinished / "annotations.json").write_text(json.dumps(coco), encoding="utf-8")


def _name(index: int) -> str:
    return f"{index:06d}.bmp"


def _draw(
    folder: Path,
    scans: Scans,
    size: int,
    digits: tuple[int, int],
    height: tuple[int, int],
    seed: int,
    index: int,
) -> Drawn:
    """Write picture number `index`, and return its boxes and labels. A BMP is decoded in a tenth of
    the time of a PNG, which took two fifths of the time in which a batch is read."""
    drawn = draw_picture(scans, size, digits, height, np.random.default_rng((seed, index)))
    Image.fromarray(drawn.pixels).save(folder / _name(index))
    return drawn.boxes, drawn.labels


def _in_parallel(draw: Callable[[int], Drawn], images: int) -> Iterator[Drawn]:
    """`draw` of each number, in order, by as many processes as there are cores to use. Each picture
    has a generator of its own, so that the number of processes changes nothing."""
    processes = min(len(os.sched_getaffinity(0)), images // _PICTURES_A_PROCESS) if _FORKS else 0
    if processes < 2:
        yield from map(draw, range(images))
        return
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        yield from pool.imap(draw, range(images), chunksize=_PICTURES_A_CALL)
