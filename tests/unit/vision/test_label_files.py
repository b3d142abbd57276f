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


@pytest.mark.parametrize(
    ("text", "more", "line", "words"),
    [
        ("file,label\na.jpg\n", {"split": None}, 2, "1 columns, the first line 2"),
        ("file,label\na.jpg,\n", {"split": None}, 2, "no label"),
        ("file,label\nlost.jpg,cat\n", {"split": None}, 2, "no picture"),
        ("name,label\na.jpg,cat\n", {"split": None}, 1, "not `file`"),
        ("file,label\n", {"split": None}, 0, "no row"),
        ("file,label,split\ntrain_000.jpg,cat,test\n", {}, 0, "only `test`"),
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
