"""Mistakes of docs/errors.md in specs, commands, plugins and streams: how each is made."""

from __future__ import annotations

import os
import subprocess

import numpy as np

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
