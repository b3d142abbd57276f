"""docs/errors.md, row by row: the mistake is made, and the command ends as the row says."""

from __future__ import annotations

import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"
ROW = re.compile(r"^\| ([^|]+) \| [^|]+ \| (QS\d{3}|-) \| (\d+) \|$", re.MULTILINE)
ROWS = {what: (code, int(exit_code)) for what, code, exit_code in ROW.findall(PAGE.read_text())}
MISTAKES = {}


def mistake(what):
    """Registers how a mistake is made: given the project, it returns the command's arguments."""

    def register(function):
        MISTAKES[what] = function
        return function

    return register


def plain(what, *arguments):
    MISTAKES[what] = lambda project: arguments


SPEC = ("toy.yaml", "--allow-code", "--workdir", "fresh")
plain("The spec is missing", "validate", "missing.yaml")
plain("The spec is a folder", "validate", "work")
plain("The command is unknown", "vallidate", "toy.yaml")
plain("An option is unknown", "validate", "toy.yaml", "--alow-code")
plain("`--set` has no `=`", "validate", *SPEC[:2], "--set", "seed")
plain("A key is unknown", "validate", *SPEC[:2], "--set", "sed=3")
plain("`--device` names no device", "run", *SPEC, "--device", "npu")
plain("`--workdir` is a file", "run", *SPEC[:2], "--workdir", "toy.yaml", "--device", "cpu")
plain("The plugin's file was not allowed to run", "validate", "toy.yaml")
plain("The plugin's file is missing", "validate", *SPEC[:2], "--set", "plugins=[./gone.py]")
INFER = ("infer", "toy.yaml", "--allow-code", "--output", "out")
plain("The input of `infer` is missing", *INFER, "--model", "work/convert/toy.program",
      "--input", "gone.npy")  # fmt: skip


@mistake("The spec is a named pipe")
def _(project):
    os.mkfifo(project.folder / "pipe.yaml")
    return "validate", "pipe.yaml"


def spec_of(data):
    def make(project):
        (project.folder / "wrong.yaml").write_bytes(data)
        return "validate", "wrong.yaml"

    return make


MISTAKES["The spec is larger than 2 MiB"] = spec_of(b"#" * (2 << 20) + b"#")
MISTAKES["The spec is not UTF-8"] = spec_of(b"name: \xff\n")
MISTAKES["The spec is nested too deeply"] = spec_of(b"a: " + b"[" * 200 + b"]" * 200)
MISTAKES["`extends` names a file that is no spec"] = spec_of(b"extends: /proc/self/environ\n")
plain("The name ends with a line feed", "validate", *SPEC[:2], "--set", 'name="x\\n"')


@mistake("`extends` names a link to the environment of the process")
def _(project):
    (project.folder / "base.yaml").symlink_to("/proc/self/environ")
    return spec_of(b"extends: base.yaml\n")(project)


plain("A variable of the environment is not set", "validate", *SPEC[:2],
      "--set", "march=${env:QATSPEC_NOT_SET}")  # fmt: skip
plain("A variable of the environment is no march", "validate", *SPEC[:2],
      "--set", "march=${env:PATH}")  # fmt: skip


@mistake("The input of `infer` holds NaN")
def _(project):
    np.save(project.folder / "nan.npy", np.full((1, 3, 16, 16), np.nan, np.float32))
    return *INFER, "--model", "work/convert/toy.program", "--input", "nan.npy"


@mistake("The input of `infer` is a named pipe")
def _(project):
    os.mkfifo(project.folder / "pipe.png")
    return *INFER, "--model", "work/convert/toy.program", "--input", "pipe.png"


plain("`--output` names the spec that the command reads", "check", *SPEC, "--picture", "toy.yaml")
plain("`--output` names a result in a work directory", "schema", "--output", "work/summary.json")


@mistake("The input of `infer` is not an array")
def _(project):
    (project.folder / "x.npy").write_bytes(b"no array")
    return *INFER, "--model", "work/convert/toy.program", "--input", "x.npy"


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

# -- plugins -----------------------------------------------------------------------------------


def plugin(what, old, new, *arguments):
    def make(project):
        path = project.folder / "toy_plugin.py"
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new, 1))
        return arguments or ("run", *SPEC, "--step", "float", "--device", "cpu")

    MISTAKES[what] = make


PATTERN = """from qatspec.api import FusePattern


@hookimpl
def qatspec_fuse_patterns():
    pattern = ("conv2d", "batch_norm2d", "relu")
    return [FusePattern(name="angry", summary="s", pattern=pattern, check=lambda match: 1 / 0)]


class Corners:"""
plugin("The plugin raises when it is imported", "class Corners:", "1 / 0\n\n\nclass Corners:")
plugin("A hook raises", "def qatspec_models():", "def qatspec_models():\n    1 / 0")
plugin("`build` raises", "super().__init__()", "super().__init__()\n        1 / 0")
plugin("`build` returns no model", "class Net(nn.Module):", "class Net(dict):")
plugin("`forward` raises", "return self.head(self.stem(images))", "return self.tail(images)")
plugin("`loss` is missing", "def loss(", "def criterion(")
plugin(
    "`loss` returns a list", "def loss(", "def loss(self, *given):\n        return []\n\n    def _("
)
plugin("`predict` returns a tensor", "def predict(self, ", "def predict(self, outputs):\n"
       "        return outputs\n\n    def _(self, ")  # fmt: skip
plugin("`open` raises", "self.count = count", "self.count = count / 0")
plugin("`sample` is missing", "def sample(", "def __getitem__(")
plugin("`sample` returns a tuple", 'return Sample(image, {"label"', 'return (image, {"label"')
plugin("`evaluate` lacks the metric that chooses", '{"accuracy":', '{"precision":')
plugin("A fuse pattern raises", "class Corners:", PATTERN, "check", *SPEC)


plugin("`fingerprint` returns no text", "base_dir: f\"corners {params['count']}\"",
       "base_dir: None", "plan", *SPEC)  # fmt: skip


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


# -- output ------------------------------------------------------------------------------------


def redirected(redirection):
    def make(project):
        command = [*project.command_line("explain", "QS101")]
        return lambda: subprocess.run(
            ["bash", "-c", f'set -o pipefail; "$@" {redirection}', "bash", *command],
            capture_output=True, text=True, cwd=project.folder, timeout=60,
            env=project.environment(),
        )  # fmt: skip

    return make


MISTAKES["The disk behind stdout is full"] = redirected("> /dev/full")
MISTAKES["The reader of stdout has gone away"] = redirected("> >(exec <&-; sleep 5)")
MISTAKES["stdout is closed"] = redirected(">&-")


def test_every_row_has_its_mistake():
    assert ROWS.keys() == MISTAKES.keys()


@pytest.mark.parametrize("what", ROWS)
def test_a_row(copy, what):
    code, exit_code = ROWS[what]
    prepared = MISTAKES[what](copy)
    done = prepared() if callable(prepared) else copy.call(*prepared)
    assert done.returncode == exit_code, done.stderr
    assert re.findall(r"error\[(QS\d+)\]", done.stderr)[:1] == ([code] if code != "-" else [])
    assert "internal error" not in done.stderr and "Traceback" not in done.stderr
    if exit_code == 3:
        assert "from: toy_plugin.py" in done.stderr
        assert "toy_plugin.py:" in done.stderr or code == "QS007" or what == "A hook raises"
