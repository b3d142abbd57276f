"""Fingerprints of data sets see every byte that an example is made of, and neither paths nor files
of others; a spec that names the same data elsewhere, or decodes otherwise, trains nothing anew."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from qatspec_vision.data import cityscapes_layout, imagefolder_layout, layout, made_up

from qatspec.api import load, resolve
from tests.unit.vision.filled import cityscapes, coco, imagefolder

SETS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "coco": (made_up.coco, layout.fingerprint, coco({})),
    "cityscapes": (made_up.cityscapes, cityscapes_layout.fingerprint, cityscapes({})),
    "cityscapes of train ids": (
        made_up.cityscapes, cityscapes_layout.fingerprint, cityscapes({"labels": "labelTrainIds"}),
    ),
    "imagefolder": (made_up.imagefolder, imagefolder_layout.fingerprint, imagefolder({})),
    "table": (
        made_up.imagefolder, imagefolder_layout.fingerprint, imagefolder({"index": "table.csv"}),
    ),
}  # fmt: skip


@pytest.fixture(params=list(SETS))
def drawn(request, tmp_path):
    """(root of a set of six pictures, a call for its fingerprint there or at another root)."""
    draw, fingerprint, params = SETS[request.param]
    root = tmp_path / "set"
    draw(root, "val", 6)
    if "index" in params:
        names = sorted(p.relative_to(root).as_posix() for p in root.rglob("*.png"))
        rows = [f"{name},{number % 3}" for number, name in enumerate(names)]
        (root / "table.csv").write_text("\n".join(["file,class_index", *rows, ""]))

    def ask(where: Path = root) -> str:
        return fingerprint({"root": str(where), "split": "val", **params}, tmp_path)

    kind = params.get("labels", "labelIds")
    others = {"labelIds": "labelTrainIds", "labelTrainIds": "labelIds"}[kind]
    return root, ask, [p for p in sorted(root.rglob("*.*")) if others not in p.name]


def flip(path: Path) -> None:
    """Flip a bit, keeping name, size and mtime."""
    status, data = path.stat(), bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_every_file_of_the_set_counts_by_its_bytes(drawn):
    _, ask, files = drawn
    before = ask()
    assert len(files) >= 6
    for path in files:
        if path.suffix == ".csv":
            continue  # another letter of a table names no file
        flip(path)
        assert ask() != before, path
        flip(path)
        assert ask() == before, path


def test_neither_the_place_nor_other_files_count(drawn, tmp_path):
    root, ask, files = drawn
    before = ask()
    for folder in {path.parent for path in files}:
        (folder / "notes.txt").write_text("not of the set")
    for path in root.rglob("*_gtFine_label*"):
        if path not in files:
            flip(path)  # the labels that the spec does not read
    assert ask() == before
    shutil.copytree(root, tmp_path / "elsewhere")
    assert ask(tmp_path / "elsewhere") == before


SPEC = """\
qatspec: 1
name: pets
march: bayes
model: {type: fcos, params: {num_classes: 80}, input: {size: [64, 64]}}
data:
  train: {type: coco_detection, params: {root: set, split: train, size: 64}, batch_size: 2}
  val: {type: coco_detection, params: {root: set, split: val, size: 64}, batch_size: 2}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.01}}}
"""


@pytest.fixture
def float_step(tmp_path):
    for split in ("train", "val"):
        made_up.coco(tmp_path / f"{split}-set", split, 2)
        shutil.copytree(tmp_path / f"{split}-set", tmp_path / "set", dirs_exist_ok=True)

    def step(*overrides: str) -> tuple[str, str]:
        (tmp_path / "spec.yaml").write_text(SPEC)
        (found,) = resolve(load(tmp_path / "spec.yaml", overrides)).steps
        return found.digest, found.evaluation

    step.root = tmp_path / "set"
    return step


@pytest.mark.parametrize(
    ("overrides", "same_tensors", "same_evaluation"),
    [
        (["data.train.params.root=copy", "data.val.params.root=copy"], True, True),
        (["data.train.params.annotations=annotations/../annotations/instances_{split}.json"],
         True, True),
        (["model.params.decoder.score_threshold=0.2"], True, False),
        (["model.params.decoder={iou_threshold: 0.5, max_detections: 5}"], True, False),
        (["data.val.params.limit=1"], True, False),
        (["data.val.params.split=train"], True, False),
        (["data.val.batch_size=1"], True, False),
        (["data.val.workers=1"], True, True),
        (["data.train.params.limit=1"], False, True),
        (["data.train.params.split=val"], False, True),
        (["model.params.loss.gamma=1.5"], False, True),
    ],
)  # fmt: skip
def test_what_float_depends_on(float_step, overrides, same_tensors, same_evaluation):
    shutil.copytree(float_step.root, float_step.root.with_name("copy"))
    before, after = float_step(), float_step(*overrides)
    assert (before[0] == after[0], before[1] == after[1]) == (same_tensors, same_evaluation)


def test_a_bit_of_a_picture_of_each_role_counts_there(float_step):
    before = float_step()
    pictures = {split: min((float_step.root / split).glob("*.png")) for split in ("train", "val")}
    flip(pictures["val"])
    assert float_step()[0] == before[0] and float_step()[1] != before[1]
    flip(pictures["val"])
    flip(pictures["train"])
    assert float_step()[0] != before[0] and float_step()[1] == before[1]


def test_escaped_names_in_annotations_are_found(tmp_path):
    made_up.coco(tmp_path / "set", "val", 1)
    table = tmp_path / "set/annotations/instances_val.json"
    content = json.loads(table.read_text())
    old = tmp_path / "set/val" / content["images"][0]["file_name"]
    content["images"][0]["file_name"] = 'ä "quoted" \\ 1.png'
    old.rename(old.with_name('ä "quoted" \\ 1.png'))
    table.write_text(json.dumps(content))
    params = coco({"root": "set", "split": "val"})
    before = layout.fingerprint(params, tmp_path)
    flip(old.with_name('ä "quoted" \\ 1.png'))
    assert layout.fingerprint(params, tmp_path) != before
