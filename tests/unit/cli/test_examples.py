"""Each command's help has an example, and every example runs."""

from __future__ import annotations

import shlex
import shutil

import click
import numpy as np
import pytest
from PIL import Image

from qatspec.cli.examples import EXAMPLES
from qatspec.cli.main import COMMANDS, cli
from tests.conftest import Project

LINES = [line for lines in EXAMPLES.values() for line in lines]


def commands():
    """(path, command) of every command that does something."""
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        if isinstance(command, click.Group):
            yield from ((f"{name} {child}", c) for child, c in command.commands.items())
        else:
            yield name, command


def test_every_command_has_an_example_in_its_help():
    assert {path for path, _ in commands()} == set(EXAMPLES)
    for path, command in commands():
        text = command.get_help(click.Context(command, info_name=path))
        for line in EXAMPLES[path]:
            assert line.split()[-1] in text and "Examples:" in text


@pytest.fixture(scope="module")
def folder(finished, tmp_path_factory):
    """A finished run of `digits.yaml`, with the files that the examples name."""
    root = tmp_path_factory.mktemp("examples") / "project"
    shutil.copytree(finished.folder, root)
    project = Project(root)
    (root / "runs").mkdir()
    (root / "work").rename(root / "runs" / "digits")
    text = (root / "toy.yaml").read_text().replace("name: toy", "name: digits")
    for name in ("digits.yaml", "other.yaml"):
        (root / name).write_text(text)
    (root / "fcos_config.py").write_text("custom_config_dict = {'quantize_input': False}\n")
    pixels = np.zeros((16, 16, 3), np.uint8)
    for picture in ("photos/a.png", "pictures/cats/a.png", "pictures/dogs/b.png"):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / picture)
    done = project.call("run", "digits.yaml", "--allow-code", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    return project


@pytest.mark.parametrize("line", LINES)
def test_an_example_runs(folder, line):
    """With --allow-code, as the toy project has its model in a file of its own."""
    words = shlex.split(line)
    if words[0] == "eval":
        words = shlex.split(words[1].removeprefix("$(").removesuffix(")"))
    name = " ".join(words[1:3]) if words[1] == "plugins" else words[1]
    command = dict(commands())[name]
    options = {option for param in command.params for option in param.opts}
    more = ["--allow-code"] if "--allow-code" in options else []
    more += ["--device", "cpu"] if "--device" in options and "--device" not in words else []
    done = folder.call(*words[1:], *more)
    assert done.returncode == 0, done.stderr
