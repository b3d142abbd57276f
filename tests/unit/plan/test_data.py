"""What the data sets of a spec say before they are opened."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from qatspec.cli import main
from qatspec.plan import data_findings
from qatspec.spec import load, warnings

SPEC = """
qatspec: 1
name: few
march: bayes
model: {{type: efficientnet, params: {{{classes}}}, input: {{size: [64, 64]}}}}
data:
  train: {{type: {kind}, params: {{{params}split: train, size: 64}}}}
  val: {{type: {kind}, params: {{{params}split: {split}, size: 64}}}}
stages:
  float: {{trainer: {{epochs: 1, optimizer: {{type: sgd, lr: 0.1}}}}}}
"""


def _spec(folder: Path, kind: str, classes: str, split: str = "val", params: str = "root: set, "):
    path = folder / "spec.yaml"
    path.write_text(SPEC.format(kind=kind, classes=classes, split=split, params=params))
    return load(path)


def _coco(folder: Path, names: list[str]) -> None:
    for split in ("train", "val"):
        (folder / "set" / split).mkdir(parents=True)
        annotations = folder / "set/annotations"
        annotations.mkdir(exist_ok=True)
        categories = [{"id": 7 - i, "name": name} for i, name in enumerate(names)]
        content = {"categories": categories, "images": [], "annotations": []}
        (annotations / f"instances_{split}.json").write_text(json.dumps(content))


def _folders(folder: Path, names: list[str]) -> None:
    for split in ("train", "val"):
        for name in names:
            (folder / "set" / split / name).mkdir(parents=True)
            (folder / "set" / split / name / "a.jpg").touch()


@pytest.mark.parametrize(
    ("kind", "build"), [("coco_detection", _coco), ("imagefolder_classification", _folders)]
)
def test_numbers_of_classes(tmp_path, kind, build):
    build(tmp_path, ["a", "b", "c"])
    assert data_findings(_spec(tmp_path, kind, "num_classes: 3")) == ()
    (wider,) = data_findings(_spec(tmp_path, kind, "num_classes: 80"))
    assert (wider.code, wider.severity) == ("QS914", "warning") and "77" in wider.message
    assert [note.span.line for note in wider.notes] == [7, 8]
    (narrower,) = data_findings(_spec(tmp_path, kind, "num_classes: 2"))
    assert (narrower.code, narrower.severity) == ("QS914", "error")
    assert narrower.span.line == 5 and "num_classes: 3" in narrower.help
    (default,) = data_findings(_spec(tmp_path, kind, ""))  # 1000
    assert default.span.line == 5


@pytest.mark.parametrize("kind", ["coco_detection", "imagefolder_classification"])
def test_a_wrong_root_and_a_wrong_split(tmp_path, kind):
    (_coco if kind == "coco_detection" else _folders)(tmp_path, ["a"])
    (split,) = data_findings(_spec(tmp_path, kind, "num_classes: 1", split="vall"))
    assert (split.code, split.severity, split.span.line) == ("QS910", "error", 8)
    roots = data_findings(_spec(tmp_path, kind, "num_classes: 1", params="root: none, "))
    assert [(d.code, d.span.line) for d in roots] == [("QS910", 7), ("QS910", 8)]


def test_a_spec_whose_smoke_needs_no_data_says_so(tmp_path):
    path = tmp_path / "spec.yaml"
    text = SPEC.format(
        kind="coco_detection", classes="num_classes: 1", split="val", params="root: none, "
    )
    for more, told in (("", False), ("smoke: {vars: {a: 1}}\n", False),
                       ("smoke: {data: {train: {params: {made_up: 4}}}}\n", True)):  # fmt: skip
        path.write_text(text + more)
        found = data_findings(load(path))
        assert {d.code for d in found} == {"QS910"}
        assert all((f"`qatspec run {path} --smoke`" in d.help) == told for d in found)


def test_two_classes_of_one_name_are_told_with_their_line(tmp_path):
    (tmp_path / "set/images/train").mkdir(parents=True)
    (tmp_path / "set/labels/train").mkdir(parents=True)
    (tmp_path / "set/data.yaml").write_text("names:\n- cat\n- dog\n- cat\n")
    params = "root: set, classes: data.yaml, "
    spec = _spec(tmp_path, "yolo_detection", "num_classes: 3", split="train", params=params)
    found = data_findings(spec)
    assert [(d.code, d.span.line) for d in found] == [("QS958", 7), ("QS958", 8)]
    assert all(d.notes[-1].span.line == 4 for d in found)


def test_a_file_that_is_no_annotation_file_is_left_to_the_set(tmp_path):
    _coco(tmp_path, ["a"])
    for text in (
        "",
        "[]",
        '{"categories": 3}',
        '{"categories": [1]}',
        '{"categories": [{"id": 1}]}',
    ):
        (tmp_path / "set/annotations/instances_train.json").write_text(text)
        assert data_findings(_spec(tmp_path, "coco_detection", "num_classes: 1")) == ()


def test_made_up_pictures_say_nothing(tmp_path):
    spec = _spec(tmp_path, "coco_detection", "num_classes: 5", params="root: none, made_up: 4, ")
    assert data_findings(spec) == ()


def test_commands(tmp_path, capsys):
    def run(command, path):
        code = main.run([command, str(path)])
        return (code, *capsys.readouterr())

    _coco(tmp_path, ["a", "b", "c"])
    _spec(tmp_path, "coco_detection", "num_classes: 2")
    for command in ("validate", "plan"):
        code, _, err = run(command, tmp_path / "spec.yaml")
        assert code == 1 and "QS914" in err
    _spec(tmp_path, "coco_detection", "num_classes: 80")
    for command in ("validate", "plan"):
        code, _, err = run(command, tmp_path / "spec.yaml")
        assert code == 0 and err.count("QS914") == 1


def test_weights_that_are_not_there(tmp_path):
    _coco(tmp_path, ["a"])
    _spec(tmp_path, "coco_detection", "num_classes: 1")
    path = tmp_path / "spec.yaml"
    trainer = "  float: {solver: {weights: w.pth}, trainer"
    path.write_text(path.read_text().replace("  float: {trainer", trainer))
    (found,) = data_findings(load(path))
    assert (found.code, found.span.line) == ("QS905", 10)
    (tmp_path / "w.pth").touch()
    assert data_findings(load(path)) == ()


def test_a_runtime_that_is_not_installed(tmp_path, monkeypatch):
    _coco(tmp_path, ["a"])
    _spec(tmp_path, "coco_detection", "num_classes: 1")
    path = tmp_path / "spec.yaml"
    later = "  qat: {trainer: {steps: 1, optimizer: {type: sgd, lr: 0.1}}, qconfig: horizon_qat}\n"
    text = path.read_text().replace("march: bayes", "march: onnxruntime")
    path.write_text(f"{text}{later}  convert: {{}}\n  compile: {{}}\n")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (found,) = warnings(load(path))
    assert (found.code, found.severity) == ("QS008", "warning") and "onnxruntime" in found.message


def test_numbers_of_classes_that_annotation_files_name(tmp_path):
    """A VOC set without a list of classes, and a split that it does not have."""
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (tmp_path / "set" / name).mkdir(parents=True)
    (tmp_path / "set/JPEGImages/a.jpg").touch()
    objects = "".join(
        f"<object><name>{name}</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax>"
        "<ymax>9</ymax></bndbox></object>"
        for name in ("dog", "cat", "cow")
    )
    (tmp_path / "set/Annotations/a.xml").write_text(f"<annotation>{objects}</annotation>")
    for split in ("train", "val"):
        (tmp_path / f"set/ImageSets/Main/{split}.txt").write_text("a\n")
    assert data_findings(_spec(tmp_path, "voc_detection", "num_classes: 3")) == ()
    for number, severity in ((80, "warning"), (2, "error")):
        (found,) = data_findings(_spec(tmp_path, "voc_detection", f"num_classes: {number}"))
        assert (found.code, found.severity) == ("QS914", severity)
    (split,) = data_findings(_spec(tmp_path, "voc_detection", "num_classes: 3", split="vall"))
    assert (split.code, split.span.line) == ("QS910", 8)
