"""Each command's help has an example, and every example runs."""

from __future__ import annotations

import json
import re
import shlex
import shutil

import click
import numpy as np
import pytest
from PIL import Image

from qatspec.cli import live
from qatspec.cli.examples import EXAMPLES
from qatspec.cli.main import COMMANDS, cli, run
from qatspec.registry import registry
from tests.conftest import Project

#: What stdout is for in every format: a spec, a script.
PRODUCTS = ("show", "completion")
#: Commands that take long, or that refuse to write a file a second time, are tried as text alone.
ONCE = (
    "convert", "sensitivity", "advise", "new", "import-hat", "plugins new", "plugins check",
    "schema",
)  # fmt: skip
NOISE = "noise of a plugin"

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


def noisy(plugin: str) -> str:
    """The toy plugin, which prints when it is imported and in each method, and always warns."""
    printing = re.sub(
        r"(\n( +)def \w+\(.*\n)", rf'\1\2    print("{NOISE}")\n', f'{plugin}\nprint("{NOISE}")\n'
    )
    return f"""{printing}
@hookimpl
def qatspec_check(spec):
    print("{NOISE}")
    yield codes.QS911.warning("a warning of a plugin")
"""


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
    plugin = root / "toy_plugin.py"
    plugin.write_text(noisy(plugin.read_text()))
    (root / "fcos_config.py").write_text("custom_config_dict = {'quantize_input': False}\n")
    pixels = np.zeros((16, 16, 3), np.uint8)
    for picture in ("photos/a.png", "pictures/cats/a.png", "pictures/dogs/b.png"):
        (root / picture).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / picture)
    done = project.call("run", "digits.yaml", "--allow-code", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    yield project
    registry.cache_clear()  # the noisy plugin is of this folder alone


def ran(folder, line, *more):
    """The command of a line and its end, with --allow-code, as the toy project has its model in a
    file of its own."""
    words = shlex.split(line)
    if words[0] == "eval":
        words = shlex.split(words[1].removeprefix("$(").removesuffix(")"))
    name = name_of(line)
    command = dict(commands())[name]
    options = {option for param in command.params for option in param.opts}
    more = [*more, "--allow-code"] if "--allow-code" in options else [*more]
    more += ["--device", "cpu"] if "--device" in options and "--device" not in words else []
    done = folder.call(*words[1:], *more)
    assert done.returncode == 0, done.stderr
    return done


def name_of(line):
    words = line.removeprefix('eval "$(').split()
    return " ".join(words[1:3]) if words[1] == "plugins" else words[1]


@pytest.mark.parametrize("line", LINES)
def test_an_example_runs(folder, line):
    assert NOISE not in ran(folder, line).stdout


@pytest.mark.parametrize("line", [x for x in LINES if name_of(x) not in ONCE and "sarif" not in x])
def test_stdout_is_one_document(folder, line):
    """What the command writes for programs, with the plugin's warning, and nothing that it prints;
    text for people goes to stderr."""
    name = name_of(line)
    fast = ["--images", "0"] if name == "report" else []
    done = ran(folder, line, "--format", "json", *fast)
    assert NOISE not in done.stdout
    if name in PRODUCTS:
        assert done.stdout.startswith(("qatspec: 1", "_qatspec")), done.stdout
        assert name == "completion" or "a warning of a plugin" in done.stderr
        return
    data = json.loads(done.stdout)
    if "digits.yaml" in line and name not in ("migrate", "perf"):
        assert "a warning of a plugin" in {d["message"] for d in data["diagnostics"]}
        assert NOISE in done.stderr
    if name == "eval":
        assert data["metrics"] == {"accuracy": 100.0} and data["stage"] == "integer"
    if name == "run":
        assert data["metrics"]["qat"]["accuracy"] == 100.0


def test_a_document_of_sarif_has_no_text_for_people(folder):
    done = ran(folder, "qatspec plan digits.yaml", "--format", "sarif")
    (run,) = json.loads(done.stdout)["runs"]
    assert [result["message"]["text"].split("\n")[0] for result in run["results"]]
    assert "calibration" in done.stderr


def test_a_command_that_fails_writes_one_document(folder):
    done = folder.call(
        "compare", "digits.yaml", "--allow-code", "--threshold", "500", "--format", "json"
    )
    assert done.returncode == 1 and json.loads(done.stdout)["diagnostics"]


def test_progress_of_eval_is_not_among_its_metrics(finished, monkeypatch, capfd):
    """However slow the machine is, stdout has the file and its metrics alone."""
    monkeypatch.setattr(live, "PLAIN_INTERVAL", 0.0)
    monkeypatch.chdir(finished.folder)
    options = ("--workdir", "work", "--allow-code", "--device", "cpu")
    registry.cache_clear()  # other projects bring the same plugin
    try:
        assert run(["eval", "toy.yaml", "--stage", "qat", *options]) == 0
    finally:
        registry.cache_clear()  # the plugin is of that folder alone
    shown = capfd.readouterr()
    assert [line.split()[0] for line in shown.out.splitlines()[1:]] == ["accuracy"]
    assert "left" in shown.err and "left" not in shown.out
