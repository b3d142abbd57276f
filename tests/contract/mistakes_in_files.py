"""Mistakes of docs/errors.md in data, weights, checkpoints and Programs: how each is made."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import torch
from PIL import Image

from tests.contract.mistakes import INFER, MISTAKES, SPEC, mistake

_OTHERS = set(MISTAKES)

# -- data --------------------------------------------------------------------------------------

COCO = {
    "images": [{"id": 1, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 8, 8]}],
    "categories": [{"id": 1, "name": "cat"}],
}


def data(kind, **params):
    """The arguments of a run whose data.val is a set of the vision plugin."""
    given = json.dumps({"type": kind, "params": params, "batch_size": 2})
    return "run", *SPEC, "--step", "float", "--device", "cpu", "--set", f"data.val={given}"


def coco(project, content=COCO):
    root = project.folder / "coco"
    (root / "annotations").mkdir(parents=True)
    (root / "val").mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(root / "val" / name)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / "annotations" / "instances_val.json").write_text(text)
    return root, data("coco_detection", root="coco", split="val", size=16)


def coco_of(**changes):
    return lambda project: coco(project, {**COCO, **changes})[1]


MISTAKES["The annotation file is no JSON"] = lambda project: coco(project, "{")[1]
MISTAKES["An image id is a text"] = coco_of(images=[{"id": "1", "file_name": "a.png"}])
MISTAKES["Two images have one id"] = coco_of(images=[COCO["images"][0]] * 2)


@mistake("The annotation file is missing")
def _(project):
    root, arguments = coco(project)
    (root / "annotations/instances_val.json").unlink()
    return arguments


@mistake("The annotation file is a named pipe")
def _(project):
    arguments = MISTAKES["The annotation file is missing"](project)
    os.mkfifo(project.folder / "coco/annotations/instances_val.json")
    return arguments


@mistake("The folder of pictures is a loop of links")
def _(project):
    root, arguments = coco(project)
    (root / "val").rename(root / "other")
    (root / "val").symlink_to(root / "val")
    return arguments


@mistake("A picture is a link to nowhere")
def _(project):
    root, arguments = coco(project)
    (root / "val/b.png").unlink()
    (root / "val/b.png").symlink_to("gone.png")
    return arguments


@mistake("A picture is missing")
def _(project):
    root, arguments = coco(project)
    (root / "val/b.png").unlink()
    return arguments


@mistake("A picture is PostScript under another name")
def _(project):
    root, arguments = coco(project)
    for name in ("a.png", "b.png"):
        Image.new("RGB", (16, 16)).save(root / "val" / name, format="EPS")
    return arguments


@mistake("A class table has a class below 0")
def _(project):
    (project.folder / "table.csv").write_text("file,class_index\na.png,-1\n")
    return data("imagefolder_classification", root=".", index="table.csv", size=16)


MISTAKES["The folder of a classification set is missing"] = lambda project: data(
    "imagefolder_classification", root="gone", split="val", size=16
)
MISTAKES["The folder of a segmentation set is missing"] = lambda project: data(
    "cityscapes_segmentation", root="gone", split="val", size=16
)

# -- checkpoints, weights, Programs --------------------------------------------------------------


def weights(path):
    return (
        "run",
        *SPEC,
        "--step",
        "float",
        "--device",
        "cpu",
        "--set",
        (f"stages.float.solver.weights={path}"),
    )


MISTAKES["The weights are missing"] = lambda project: weights("gone.pth")


@mistake("The weights are a named pipe")
def _(project):
    os.mkfifo(project.folder / "pipe.pth")
    return weights("pipe.pth")


@mistake("The weights are a text file")
def _(project):
    (project.folder / "w.pth").write_text("no weights")
    return weights("w.pth")


@mistake("The weights are compressed")
def _(project):
    torch.save({"weight": torch.zeros(9)}, project.folder / "w.pth")
    with zipfile.ZipFile(project.folder / "w.pth") as old:
        entries = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(project.folder / "w.pth", "w", zipfile.ZIP_DEFLATED) as new:
        for name, content in entries.items():
            new.writestr(name, content)
    return weights("w.pth")


@mistake("The weights are a whole module")
def _(project):
    torch.save(torch.nn.Linear(3, 4), project.folder / "w.pth")
    return weights("w.pth")


@mistake("The weights are two networks")
def _(project):
    state = torch.nn.Linear(3, 4).state_dict()
    torch.save({"student": state, "teacher": state}, project.folder / "w.pth")
    return weights("w.pth")


@mistake("The weights have a head for other classes")
def _(project):
    state = torch.load(project.folder / BEST, weights_only=True)["state_dict"]
    state["head.bias"] = torch.zeros(77)
    torch.save(state, project.folder / "w.pth")
    return weights("w.pth")


BEST = "work/float/float-checkpoint-best.pth.tar"


@mistake("A checkpoint is cut")
def _(project):
    path = project.folder / BEST
    path.write_bytes(path.read_bytes()[:1000])
    return "eval", *SPEC, "--model", BEST, "--device", "cpu", "--stage", "float"


@mistake("A checkpoint is of another model")
def _(project):
    path = project.folder / "w.pth"
    torch.save({"another.weight": torch.zeros(9)}, path)
    return weights("w.pth")


def changed(file, target):
    """A byte in the middle of a file of the work directory is changed, in `target`."""

    def make(project):
        np.save(project.folder / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
        whole = bytearray((project.workdir / file).read_bytes())
        whole[len(whole) // 2] ^= 1
        (project.folder / target).write_bytes(whole)
        return *INFER, "--model", target, "--input", "x.npy"

    return make


MISTAKES["A Program has a changed byte"] = changed("convert/toy.program", "a.program")
MISTAKES["A compiled file has a changed byte"] = changed("compile/toy.bin", "a.bin")
MISTAKES["A converted ONNX has a changed byte"] = changed(
    "convert/toy-converted.onnx", "a-converted.onnx"
)


MISTAKES["A result in the work directory has a changed byte"] = changed(
    "convert/toy.program", "work/convert/toy.program"
)


@mistake("A Program is a named pipe")
def _(project):
    np.save(project.folder / "x.npy", np.zeros((1, 3, 16, 16), np.float32))
    os.mkfifo(project.folder / "pipe.program")
    return *INFER, "--model", "pipe.program", "--input", "x.npy"


@mistake("The summary is damaged")
def _(project):
    (project.workdir / "summary.json").write_text('{"steps": 7, "artifacts": 7}')
    return "report", "work"


def record_of(text):
    def make(project):
        (project.workdir / "float/step.json").write_text(text)
        return "plan", "toy.yaml", "--allow-code", "--workdir", "work"

    return make


MISTAKES["The record of a step is of another version"] = record_of('{"format": 1, "keys": {}}')
MISTAKES["The record of a step is no JSON"] = record_of("[" * 100_000)

#: The mistakes that this module registers.
NAMES = set(MISTAKES) - _OTHERS
