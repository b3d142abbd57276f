"""`qatspec new DIR`: other usual layouts of the formats, and sets that fit several."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.new_data import inspect
from qatspec.diag import DiagnosticError
from qatspec.spec import load
from tests import sets
from tests.e2e.conftest import call


def darknet(root: Path) -> None:
    sets.yolo(root, "obj_train_data", "obj_train_data")
    (root / "data.yaml").unlink()
    (root / "obj.names").write_text("\n".join(sets.NAMES) + "\n")
    (root / "train.txt").write_text("data/obj_train_data/train_000.jpg\n")


def kaggle(root: Path) -> None:
    """A table of names without an end for the training pictures alone."""
    rows = ["id,breed"]
    for split in sets.SPLITS:
        for one in sets.drawn(split):
            one.save(root / split)
            if split == "train":
                rows.append(f"{one.name},{sets.NAMES[one.label]}")
    (root / "labels.csv").write_text("\n".join(rows))


def carvana(root: Path) -> None:
    """Masks of black and white beside the pictures' folder, with names of their own."""
    for one in sets.drawn("train"):
        one.save(root / "train")
        (root / "train_masks").mkdir(exist_ok=True)
        mask = Image.fromarray((one.mask > 0).astype(np.uint8) * 255)
        mask.save(root / "train_masks" / f"{one.name}_mask.gif")


def side_by_side(root: Path) -> None:
    for one in sets.drawn("train"):
        one.save(root)
        Image.fromarray(one.mask).save(root / f"{one.name}_mask.png")


def annotations_alone(root: Path) -> None:
    """One file for all pictures, which lie in folders."""
    sets.coco(root)
    (root / "annotations/instances_train.json").rename(root / "labels.json")
    shutil.rmtree(root / "annotations")
    (root / "train").rename(root / "photos")


def lists_of_paths(root: Path) -> None:
    """All pictures in one folder; a list for each split, with paths from other folders."""
    sets.yolo(root, "images", "labels")
    for split, start in zip(sets.SPLITS, ("./images/", "C:\\data\\images\\"), strict=True):
        paths = [f"{start}{one.name}.jpg" for one in sets.drawn(split)]
        (root / f"{split}.txt").write_text("\n".join(paths) + "\n")


def voc_with_masks(root: Path) -> None:
    """VOC's boxes and masks of the same pictures."""
    sets.voc(root)
    for split in sets.SPLITS:
        for one in sets.drawn(split):
            (root / "SegmentationClass").mkdir(exist_ok=True)
            Image.fromarray(one.mask).save(root / f"SegmentationClass/{one.name}.png")


def cvat(root: Path) -> None:
    """Coloured masks, and the file of their colours."""
    colours = {"background": (0, 0, 0), **dict(zip(sets.NAMES, sets.COLOURS, strict=True))}
    rows = [f"{name}:{','.join(map(str, colour))}::" for name, colour in colours.items()]
    sets.write(root / "labelmap.txt", "# label:color_rgb:parts:actions\n" + "\n".join(rows))
    for one in sets.drawn("train"):
        one.save(root / "JPEGImages")
        (root / "SegmentationClass").mkdir(exist_ok=True)
        mask = np.array(list(colours.values()), np.uint8)[one.mask]
        Image.fromarray(mask).save(root / f"SegmentationClass/{one.name}.png")


LAYOUTS: dict[str, tuple[Any, str, int]] = {
    "capital letters": (
        lambda root: sets.yolo(root, "Images/{split}", "Labels/{split}"), "yolo_detection", 6
    ),
    "splits in capitals": (
        lambda root: [sets.yolo(root), *((root / part / split).rename(root / part / split.upper())
                      for part in ("images", "labels") for split in sets.SPLITS)],
        "yolo_detection", 6,
    ),
    "folders below the split": (
        lambda root: sets.yolo(root, "images/{split}/day", "labels/{split}/day"),
        "yolo_detection", 6,
    ),
    "lists of paths": (lists_of_paths, "yolo_detection", 6),
    "voc with masks": (voc_with_masks, "voc_detection", 6),
    "cvat": (cvat, "mask_segmentation", 4),
    "voc with folders of splits": (
        lambda root: [sets.voc(root), shutil.rmtree(root / "ImageSets"),
                      *((root / "JPEGImages" / split).mkdir() for split in sets.SPLITS),
                      *(p.rename(p.parent / p.name.split("_")[0] / p.name)
                        for p in (root / "JPEGImages").glob("*.jpg")),
                      *((root / "Annotations" / split).mkdir() for split in sets.SPLITS),
                      *(p.rename(p.parent / p.name.split("_")[0] / p.name)
                        for p in (root / "Annotations").glob("*.xml"))],
        "voc_detection", 6,
    ),
    "darknet": (darknet, "yolo_detection", 6),
    "kaggle": (kaggle, "csv_classification", 4),
    "carvana": (carvana, "mask_segmentation", 4),
    "masks side by side": (side_by_side, "mask_segmentation", 4),
    "one file of coco": (annotations_alone, "coco_detection", 4),
    "voc below VOCdevkit": (
        lambda root: sets.voc(root / "VOCdevkit/VOC2007"), "voc_detection", 6
    ),
    "classes without splits": (
        lambda root: [sets.imagefolder(root / "x"), shutil.copytree(root / "x/train", root,
                      dirs_exist_ok=True), shutil.rmtree(root / "x")],
        "imagefolder_classification", 4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_other_usual_layouts(layout: str, folder: Path) -> None:
    write, name, count = LAYOUTS[layout]
    write(folder)
    found = inspect(folder)
    assert (found.definition.name, sum(found.counts.values())) == (name, count)
    call("new", "pictures")
    call("validate", "specs/pictures.yaml")
    call("plan", "specs/pictures.yaml")


def test_lists_are_the_splits(folder: Path) -> None:
    lists_of_paths(folder)
    assert inspect(folder).counts == sets.SPLITS
    call("new", "pictures")
    listed = [load("specs/pictures.yaml").data[role].dataset.params["list"]
              for role in ("train", "val")]  # fmt: skip
    assert listed == ["train.txt", "val.txt"]
    with (folder / "val.txt").open("a") as file:
        file.write("images/lost.jpg\n")
    with pytest.raises(DiagnosticError, match=r"`val.txt` lists it, and it is not there.*lost.jpg"):
        inspect(folder)


def test_classes_and_colours_of_a_labelmap(folder: Path) -> None:
    cvat(folder)
    assert inspect(folder).classes == ["background", *sets.NAMES]


def test_a_set_that_fits_several(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    voc_with_masks(folder)
    call("new", "pictures")
    assert "could also be read as `mask_segmentation` (--type)" in capsys.readouterr().out
    call("new", "pictures", "--type", "mask_segmentation", "--output", "other")
    assert load("other/pictures.yaml").data["val"].dataset.type == "mask_segmentation"
    call("new", "pictures", "--type", "yolo_detection", "--output", "third", code=1)
    assert "`yolo_detection` does not recognise" in capsys.readouterr().err
    call("new", "pictures", "--type", "yolo", "--output", "third", code=1)
    assert "QS301" in capsys.readouterr().err and not Path("third").exists()
