"""Names of layers, classes and files that hold control characters reach no terminal and no page."""

from __future__ import annotations

import os
import re
import shutil
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml
from PIL import Image

TOY = Path(__file__).parents[2] / "toy"
HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
NAME = "e\x1b[31m::error::<b>\u202e\x07`%s{0}"
COMMON = ("toy.yaml", "--allow-code", "--workdir", "work")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory, request):
    """A finished project with a hostile name in each place that takes one."""
    finished = request.getfixturevalue("finished")
    folder = tmp_path_factory.mktemp("hostile") / "project"
    shutil.copytree(TOY, folder)
    plugin = (folder / "toy_plugin.py").read_text()
    layer = f"        self.stem.add_module({NAME!r}, nn.Conv2d(width, width, 1))\n"
    head = "        self.head ="
    for old, new in {'"top left"': repr(NAME), head: layer + head}.items():
        assert old in plugin
        plugin = plugin.replace(old, new)
    (folder / "toy_plugin.py").write_text(plugin)
    Image.new("RGB", (20, 20), "gray").save(folder / f"{NAME.replace('/', '')}.png")
    project = type(finished)(folder)
    result = project.call("run", *COMMON, "--device", "cpu")
    assert result.returncode == 0, result.stderr
    return project


@pytest.mark.parametrize("form", ["text", "json", "github", "sarif"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", *COMMON),
        ("check", *COMMON, "--print-model"),
        ("compare", *COMMON, "--images", "2"),
        ("sensitivity", *COMMON, "--images", "2", "--top", "9", "--output", "rules.yaml"),
        ("report", "work", "--output", "-"),
        ("infer", *COMMON, "--model", "work/compile/toy.bin", "--input", ".", "--output", "out"),
    ],
    ids=lambda arguments: arguments[0],
)
def test_no_output_holds_a_hidden_character(arguments, form, hostile):
    result = hostile.call(*arguments, "--format", form)
    assert result.returncode == 0, result.stderr
    assert HIDDEN.search(result.stdout + result.stderr) is None
    commands = re.findall(r"^\s*::.*$", result.stdout, re.MULTILINE)
    assert all(command.lstrip().startswith("::warning title=QS") for command in commands)


def test_pages_and_drawings_are_well_formed(hostile):
    for arguments in (("report", "work"), ("check", *COMMON, "--picture", "graph.svg")):
        assert hostile.call(*arguments).returncode == 0
    ET.parse(hostile.folder / "graph.svg")
    pages = [hostile.folder / "graph.svg", *hostile.folder.glob("work/**/*.html")]
    assert len(pages) == 3
    for page in pages:
        text = page.read_text("utf-8")
        assert HIDDEN.search(text) is None
        assert "::<b>" not in text


@pytest.mark.parametrize("name", [b"caf\xe9.yaml", b"two\nlines.yaml", b"\x1b[31m.yaml"])
def test_rules_for_a_spec_of_such_a_name_can_be_run(name, hostile):
    spec = os.fsdecode(name)
    shutil.copy(hostile.folder / "toy.yaml", hostile.folder / spec)
    result = hostile.call(
        "sensitivity", spec, *COMMON[1:], "--images", "2", "--top", "2", "--output", "of-name.yaml"
    )
    (hostile.folder / spec).unlink()
    if "caf" in spec:  # YAML cannot hold the name
        assert (result.returncode, "QS903" in result.stderr) == (1, True), result.stderr
        return
    assert result.returncode == 0, result.stderr
    assert yaml.safe_load((hostile.folder / "of-name.yaml").read_text())["extends"] == [spec]


def test_rules_from_the_environment_keep_their_reference(hostile, monkeypatch):
    """A patch repeats the rules of the spec, which may be values of the environment."""
    monkeypatch.setenv("QATSPEC_RULES", "horizon_calibration")
    spec = (hostile.folder / "toy.yaml").read_text()
    rule, reference = "qconfig: horizon_calibration", "'${env:QATSPEC_RULES}'"
    assert rule in spec
    changed = spec.replace(rule, f"qconfig: {{'': {reference}}}", 1)
    (hostile.folder / "variable.yaml").write_text(changed)
    arguments = ("--stale", "--images", "2", "--top", "2", "--output", "of-variable.yaml")
    result = hostile.call("sensitivity", "variable.yaml", *COMMON[1:], *arguments)
    assert result.returncode == 0, result.stderr
    assert reference.strip("'") in (hostile.folder / "of-variable.yaml").read_text()
    assert hostile.call("validate", "of-variable.yaml", "--allow-code").returncode == 0
