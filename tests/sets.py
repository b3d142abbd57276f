"""Tiny data sets of bright rectangles in the formats that people have, for tests."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

NAMES = ("cat", "dog", "bird")
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255))
SPLITS = {"train": 4, "val": 2}
#: (width, height) of every picture.
SIZE = (48, 32)


class Drawn(NamedTuple):
    """A picture with one object: its name, pixels, class, and box xyxy; mask: class of each pixel
    plus one, 0 for the background."""

    name: str
    pixels: np.ndarray
    label: int
    box: tuple[int, int, int, int]

    @property
    def mask(self) -> np.ndarray:
        x1, y1, x2, y2 = self.box
        mask = np.zeros(self.pixels.shape[:2], np.uint8)
        mask[y1:y2, x1:x2] = self.label + 1
        return mask

    def save(self, folder: Path, suffix: str = ".jpg") -> str:
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(self.pixels).save(folder / f"{self.name}{suffix}")
        return f"{self.name}{suffix}"


def drawn(split: str) -> Iterator[Drawn]:
    rng = np.random.default_rng(len(split))
    width, height = SIZE
    for index in range(SPLITS[split]):
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        x1, y1 = int(rng.integers(0, width // 2)), int(rng.integers(0, height // 2))
        box = (x1, y1, x1 + 16 + index, y1 + 12)
        label = index % len(NAMES)
        pixels[box[1] : box[3], box[0] : box[2]] = COLOURS[label]
        yield Drawn(f"{split}_{index:03d}", pixels, label, box)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def yolo(root: Path, images: str = "images/{split}", labels: str = "labels/{split}") -> None:
    """Ultralytics' layout; with other folders Roboflow's, or pictures and labels side by side."""
    width, height = SIZE
    for split in SPLITS:
        for one in drawn(split):
            one.save(root / images.format(split=split))
            x1, y1, x2, y2 = one.box
            numbers = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width,
                       (y2 - y1) / height)  # fmt: skip
            text = " ".join([str(one.label), *(f"{n:.6f}" for n in numbers)])
            write(root / labels.format(split=split) / f"{one.name}.txt", f"{text}\n")
    folders = "".join(f"{split}: {images.format(split=split)}\n" for split in SPLITS)
    write(root / "data.yaml", f"{folders}nc: {len(NAMES)}\nnames: {json.dumps(NAMES)}\n")


def voc(root: Path, flat: bool = False) -> None:
    """VOC2007's layout; flat: pictures and XML files side by side in a folder for each split."""
    width, height = SIZE
    for split in SPLITS:
        names = []
        for one in drawn(split):
            folder = root / split if flat else root / "JPEGImages"
            file = one.save(folder)
            x1, y1, x2, y2 = one.box
            edges = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": x2, "ymax": y2}
            box = "".join(f"<{tag}>{edge}</{tag}>" for tag, edge in edges.items())
            text = (
                f"<annotation>\n  <filename>{file}</filename>\n"
                f"  <size><width>{width}</width><height>{height}</height><depth>3</depth></size>\n"
                f"  <object>\n    <name>{NAMES[one.label]}</name>\n"
                f"    <difficult>0</difficult>\n    <bndbox>{box}</bndbox>\n  </object>\n"
                "</annotation>\n"
            )
            write((folder if flat else root / "Annotations") / f"{one.name}.xml", text)
            names.append(one.name)
        if not flat:
            write(root / "ImageSets/Main" / f"{split}.txt", "\n".join(names) + "\n")


def coco(root: Path, ids: tuple[int, ...] = (3, 17, 90)) -> None:
    """COCO's layout, with gaps in the ids of categories, pictures and annotations."""
    for split in SPLITS:
        content = {"images": [], "annotations": [], "categories": [
            {"id": number, "name": name} for number, name in zip(ids, NAMES, strict=True)
        ]}  # fmt: skip
        for number, one in enumerate(drawn(split)):
            file, identity = one.save(root / split), 1000 - 37 * number
            x1, y1, x2, y2 = one.box
            content["images"].append(
                {"id": identity, "file_name": file, "width": SIZE[0], "height": SIZE[1]}
            )
            content["annotations"].append({
                "id": 7 * number, "image_id": identity, "category_id": ids[one.label],
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0,
            })  # fmt: skip
        write(root / "annotations" / f"instances_{split}.json", json.dumps(content))


def masks(root: Path, *, coloured: bool = False) -> None:
    """images/SPLIT and masks/SPLIT; the classes are `background` and the three others."""
    colours = np.array([(0, 0, 0), *COLOURS], np.uint8)
    for split in SPLITS:
        for one in drawn(split):
            one.save(root / "images" / split)
            folder = root / "masks" / split
            folder.mkdir(parents=True, exist_ok=True)
            stored = colours[one.mask] if coloured else one.mask
            Image.fromarray(stored).save(folder / f"{one.name}.png")
    if coloured:
        rows = [",".join([name, *map(str, colour)]) for name, colour in
                zip(("background", *NAMES), colours.tolist(), strict=True)]  # fmt: skip
        write(root / "classes.csv", "\n".join(["name,r,g,b", *rows]) + "\n")
    else:
        write(root / "classes.txt", "\n".join(["background", *NAMES]) + "\n")


def imagefolder(root: Path) -> None:
    """SPLIT/CLASS/*.jpg."""
    for split in SPLITS:
        for one in drawn(split):
            one.save(root / split / NAMES[one.label])
        for name in NAMES:
            (root / split / name).mkdir(exist_ok=True)


def table(root: Path, *, split: bool = True) -> None:
    """labels.csv with file, label and split, and pictures below pictures/."""
    rows = [["file", "label", "split"]]
    for name in SPLITS:
        rows += [[one.save(root / "pictures"), NAMES[one.label], name] for one in drawn(name)]
    with (root / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows if split else [row[:2] for row in rows])


Write = Callable[[Path], None]
