"""Label files that are wrong or unusual: what is refused, and at which line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qatspec.api import DiagnosticError
from tests import sets
from tests.unit.vision.test_label_files import (
    RNG,
    definition,
    opened,
    params_of,
    perfect,
    refused,
)


@pytest.mark.parametrize(
    ("line", "col", "words"),
    [
        ("0 0.5 0.5 x 0.1", 11, "`x` is not a number"),
        ("0 0.5 0.5 nan 0.1", 11, "`nan` is not a number"),
        ("0 0.5 0.5 0.2", 1, "5 numbers, this line has 4"),
        ("0 0.5 0.5 0.2 0.2 0.9", 1, "this line has 6"),
        ("3 0.5 0.5 0.2 0.2", 1, "class 3 is not from 0 to 2"),
        ("-1 0.5 0.5 0.2 0.2", 1, "class -1"),
        ("0.5 0.5 0.5 0.2 0.2", 1, "not a whole number"),
        ("1 24 0.5 0.2 0.2", 3, "`24` is not from 0 to 1"),
    ],
)
def test_a_bad_line_of_yolo(tmp_path: Path, line: str, col: int, words: str) -> None:
    sets.yolo(tmp_path)
    path = tmp_path / "labels/train/train_001.txt"
    path.write_text(f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    (found,) = refused("yolo", tmp_path)
    assert (found.code, found.span.file) == ("QS958", str(path))
    assert (found.span.line, found.span.col) == (3, col)
    assert words in found.message and found.help


def test_polygons_and_boxes_over_the_edge(tmp_path: Path) -> None:
    sets.yolo(tmp_path)
    path = tmp_path / "labels/train/train_000.txt"
    path.write_text("1 0.25 0.5 0.5 0.25 0.75 0.5\n2 1.0 0.5 0.5 0.5\n0 0.5 0.5 0 0.1\n")
    data = opened("yolo", tmp_path)
    target = data.sample(0, RNG).target
    assert target["labels"].tolist() == [1, 2]
    np.testing.assert_allclose(target["boxes"], [[12, 8, 36, 16], [36, 8, 48, 24]], atol=1e-4)
    (warning,) = data.diagnostics
    assert (warning.code, warning.span.file, warning.span.line) == ("QS913", str(path), 3)


def test_points_behind_the_boxes(tmp_path: Path) -> None:
    """As pose labels have them, which `kpt_shape` tells from polygons."""
    sets.yolo(tmp_path)
    path = tmp_path / "labels/train/train_000.txt"
    path.write_text("1 0.5 0.5 0.5 0.5 0.9 0.9 0.1 0.1\n")
    (tmp_path / "data.yaml").write_text(f"kpt_shape: [2, 2]\nnames: {list(sets.NAMES)}\n")
    target = opened("yolo", tmp_path).sample(0, RNG).target
    np.testing.assert_allclose(target["boxes"], [[12, 8, 36, 24]])


def test_pictures_without_labels(tmp_path: Path) -> None:
    sets.yolo(tmp_path)
    (tmp_path / "labels/train/train_002.txt").unlink()
    (tmp_path / "labels/train/train_001.txt").write_text("")
    data = opened("yolo", tmp_path)
    (warning,) = data.diagnostics
    assert warning.code == "QS959" and "1 of 4" in warning.message
    assert [len(data.sample(i, RNG).target["labels"]) for i in range(4)] == [1, 0, 0, 1]
    shutil.rmtree(tmp_path / "labels/train")
    (tmp_path / "labels/train").mkdir()
    assert refused("yolo", tmp_path)[0].code == "QS910"


def test_many_faults_are_told_at_once(tmp_path: Path) -> None:
    sets.yolo(tmp_path)
    for number in range(4):
        path = tmp_path / f"labels/train/train_{number:03d}.txt"
        path.write_text("9 0 0 0 0\n" * 3)
    found = refused("yolo", tmp_path)
    assert len(found) == 8 and "4 more" in found[-1].notes[0].text


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("<name>dog</name>", "<name>cow</name>", 5, "`cow` is none of the classes"),
        ("<name>dog</name>", "", 4, "has no `name`"),
        ("<xmin>", "<xmin>x", 7, "lacks a number"),
        ("</object>", "", 9, "not XML"),
        ("<annotation>", '<!DOCTYPE a [<!ENTITY b "c">]><annotation>', 1, "entities"),
        ("annotation>", "note>", 1, "`note`, not `annotation`"),
    ],
)
def test_a_bad_file_of_voc(tmp_path: Path, old: str, new: str, line: int, words: str) -> None:
    sets.voc(tmp_path)
    path = tmp_path / "Annotations/train_001.xml"
    path.write_text(path.read_text().replace(old, new))
    (found,) = refused("voc", tmp_path)
    assert (found.code, found.span.file) == ("QS958", str(path))
    assert found.span.line == line and words in found.message and found.help


def test_voc_without_classes_takes_those_of_all_splits(tmp_path: Path) -> None:
    sets.voc(tmp_path)
    assert list(opened("voc", tmp_path, classes=None, split="val").classes) == sorted(sets.NAMES)


def test_difficult_objects_are_no_targets(tmp_path: Path) -> None:
    sets.voc(tmp_path)
    path = tmp_path / "Annotations/train_001.xml"
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    data = opened("voc", tmp_path)
    assert [len(data.sample(i, RNG).target["labels"]) for i in range(4)] == [1, 0, 1, 1]


def test_names_of_lists(tmp_path: Path) -> None:
    """With a suffix, with what stands behind the name, and with blanks in the name."""
    sets.voc(tmp_path)
    for folder, suffix in (("JPEGImages", ".jpg"), ("Annotations", ".xml")):
        (tmp_path / folder / f"train_002{suffix}").rename(tmp_path / folder / f"a b{suffix}")
    path = tmp_path / "ImageSets/Main/train.txt"
    path.write_text("train_000.jpg\ntrain_001 -1\na b\ntrain_003\n")
    assert len(opened("voc", tmp_path)) == 4


def test_a_list_names_a_picture_that_is_not_there(tmp_path: Path) -> None:
    sets.voc(tmp_path)
    path = tmp_path / "ImageSets/Main/train.txt"
    path.write_text(path.read_text() + "lost\n")
    (found,) = refused("voc", tmp_path)
    assert (found.code, found.span.line) == ("QS958", 5) and "`lost`" in found.message


@pytest.mark.parametrize("coloured", [False, True])
def test_a_mask_that_holds_no_class(tmp_path: Path, coloured: bool) -> None:
    sets.masks(tmp_path, coloured=coloured)
    path = tmp_path / "masks/train/train_001.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[3, 5] = (9, 9, 9) if coloured else 9
    Image.fromarray(pixels).save(path)
    data = opened("coloured masks" if coloured else "masks", tmp_path)
    with pytest.raises(DiagnosticError) as caught:
        data.sample(1, RNG)
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.file) == ("QS958", str(path))
    assert "column 5 of row 3" in found.message and "9" in found.message
    ignored = {"ignore_colours": [[9, 9, 9]]} if coloured else {"ignore": [9, 255]}
    data = opened("coloured masks" if coloured else "masks", tmp_path, **ignored)
    assert data.sample(1, RNG).target["mask"][3, 5] == 255


def test_colours_that_the_spec_lists(tmp_path: Path) -> None:
    sets.masks(tmp_path, coloured=True)
    listed = {"classes": ["none", *sets.NAMES], "colours": [[0, 0, 0], *map(list, sets.COLOURS)]}
    data = opened("masks", tmp_path, **listed)
    assert data.evaluate(perfect(data))["mIoU"] == pytest.approx(100)
    wrong = {**listed, "colours": [[0, 0, 0]] * 4}
    assert "same colour" in refused("masks", tmp_path, **wrong)[0].message
    wrong = {**listed, "colours": [[0, 0, 0]]}
    assert "1 `colours` for 4 classes" in refused("masks", tmp_path, **wrong)[0].message


MARKS = {"split": None, "label_columns": ["a", "b"]}


@pytest.mark.parametrize(
    ("text", "more", "line", "words"),
    [
        ("file,label\na.jpg\n", {"split": None}, 2, "1 columns, the first line 2"),
        ("file,label\na.jpg,\n", {"split": None}, 2, "no label"),
        ("file,label\nlost.jpg,cat\n", {"split": None}, 2, "no picture"),
        ("name,label\na.jpg,cat\n", {"split": None}, 1, "not `file`"),
        ("file,label\n", {"split": None}, 0, "no row"),
        ("file,label,split\ntrain_000.jpg,cat,test\n", {}, 0, "only `test`"),
        ("file,a,b\ntrain_000.jpg,1,true\n", MARKS, 2, "several classes: `a`, `b`"),
        ("file,a,b\ntrain_000.jpg,0,0\n", MARKS, 2, "no label"),
        ("file,a,c\ntrain_000.jpg,0,1\n", MARKS, 1, "not `b`"),
        ("file,label\ntrain_000.jpg,cow\n", {"split": None, "classes": ["cat"]}, 2, "`cow`"),
    ],
)
def test_a_bad_table(
    tmp_path: Path, text: str, more: dict[str, Any], line: int, words: str
) -> None:
    sets.table(tmp_path)
    (tmp_path / "labels.csv").write_text(text)
    params = {k: v for k, v in params_of("table", **more).items() if v is not None}
    with pytest.raises(DiagnosticError) as caught:
        definition("table").open(params, tmp_path / "cache", tmp_path)
    found = caught.value.diagnostics[0]
    assert (found.code, found.span.line) == ("QS958", line), found
    assert words in found.message and found.help


def test_tables_of_other_tools(tmp_path: Path) -> None:
    """Semicolons, other columns, names without an end, and classes that are numbers."""
    sets.table(tmp_path)
    rows = ["﻿id;class", *(f"train_{n:03d};{9 + n}" for n in range(4))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    params = params_of("table", file_column="id", label_column="class", suffix=".jpg")
    del params["split"]
    data = definition("table").open(params, tmp_path / "cache", tmp_path)
    assert list(data.classes) == ["9", "10", "11", "12"]
    assert [int(data.sample(i, RNG).target["label"]) for i in range(4)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("data.yaml", "names: {0: a, 2: b}\n", "not 0 to 1"),
        ("data.yaml", "nc: 3\n", "no list `names`"),
        ("data.yaml", "names: [\n", "not YAML"),
        ("names.txt", "\n\n", "holds no class names"),
        ("names.csv", "name,r,g,b\na,1,2\n", "not a class with a colour"),
    ],
)
def test_bad_files_of_class_names(tmp_path: Path, name: str, text: str, words: str) -> None:
    sets.yolo(tmp_path)
    (tmp_path / name).write_text(text)
    found = refused("yolo", tmp_path, classes=name)[0]
    assert found.code == "QS958" and words in found.message
    (tmp_path / name).unlink()
    assert refused("yolo", tmp_path, classes=name)[0].code == "QS910"
