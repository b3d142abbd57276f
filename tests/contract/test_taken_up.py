"""The ways into CI, editors and containers: what their files name exists, in the right version."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
import yaml

from qatspec.cli.main import cli, run

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
README = (ROOT / "README.md").read_text("utf-8")


def requirement(name: str) -> str:
    """What pyproject.toml requires of a distribution."""
    return next(r for r in PROJECT["dependencies"] if re.split(r"[<>=]", r)[0] == name)


def action() -> dict:
    return yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))


def test_the_action_installs_what_validate_imports_as_the_project_requires_it():
    """Without torch, numpy and onnx: the front half needs none (tests/contract/test_layers.py)."""
    _, install, _ = action()["runs"]["steps"]
    assert '--no-deps "$GITHUB_ACTION_PATH"' in install["run"]
    packages = re.findall(r'"([\w.-]+[<>=][^"]*)"', install["run"])
    assert packages == [requirement(re.split(r"[<>=]", p)[0]) for p in packages]
    names = {re.split(r"[<>=]", p)[0] for p in packages}
    assert names == {"pyyaml", "jsonschema", "pluggy", "click", "rich"}


def test_the_action_calls_a_command_with_options_that_it_has():
    *_, validate = action()["runs"]["steps"]
    line = validate["run"].strip().splitlines()[-1]
    command = cli.get_command(click.Context(cli), line.split()[1])
    options = {option for param in command.params for option in param.opts}
    assert set(re.findall(r"--[\w-]+", line)) <= options
    assert set(re.findall(r"\$([A-Z]+)", line)) == set(validate["env"])
    inputs = action()["inputs"]
    for name in re.findall(r"inputs\.(\w+)", json.dumps(action()["runs"])):
        assert name in inputs


def test_the_hook_of_pre_commit_takes_several_files(tmp_path, monkeypatch, capsys):
    """pre-commit passes every changed file to one call; bases are no specs by themselves."""
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert hook["entry"] == "python -m qatspec validate"
    assert re.search(hook["exclude"], "specs/_base/fcos.yaml")
    quickstart = str(ROOT / "specs" / "quickstart.yaml")
    broken = tmp_path / "broken.yaml"
    broken.write_text("qatspec: 1\nnmae: x\n")
    monkeypatch.chdir(tmp_path)
    assert run(["validate", quickstart, quickstart]) == 0
    assert capsys.readouterr().out.count(": ok (") == 2
    assert run(["validate", str(broken), quickstart]) == 1
    shown = capsys.readouterr()
    assert shown.out.count(": ok (") == 1 and "broken.yaml:2:1" in shown.err


def test_specs_pass_in_ci_without_their_data_weights_and_variables(tmp_path, monkeypatch, capsys):
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    given = action()["inputs"]["options"]["default"].split()
    assert hook["args"] == given == ["--without-data"]
    for name in ("BCCD_ROOT", "COCO_ROOT", "IMAGENET_ROOT", "LITE0_WEIGHTS"):
        monkeypatch.delenv(name, raising=False)
    names = ("yolo_bccd", "fcos_efficientnetb2_mscoco", "efficientnetlite0_imagenet")
    paths = [str(ROOT / "specs" / f"{name}.yaml") for name in names]
    assert run(["validate", *paths, *given]) == 0
    assert capsys.readouterr().out.count(": ok (") == 3
    assert run(["validate", *paths]) == 1
    assert capsys.readouterr().err.count("error[QS303]") == 4  # variables
    monkeypatch.setenv("COCO_ROOT", str(tmp_path))
    assert run(["validate", paths[1]]) == 1
    assert "error[QS910]" in capsys.readouterr().err
    assert run(["validate", paths[1], "--set", "model.params.levels=5", *given]) == 1
    assert "levels" in capsys.readouterr().err


def test_sarif_of_several_specs_is_one_log(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "b.yaml"):
        Path(name).write_text("qatspec: 1\nnmae: x\n")
    assert run(["validate", "a.yaml", "b.yaml", "--format", "sarif"]) == 1
    log = json.loads(capsys.readouterr().out)
    assert log["version"] == "2.1.0"
    places = [
        r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
        for r in log["runs"][0]["results"]
    ]
    assert set(places) == {"a.yaml", "b.yaml"}


def test_containers_install_by_the_commands_of_the_readme():
    image = (ROOT / "Dockerfile").read_text("utf-8")
    assert "-e '.[demo]'" in image and "pip install -e '.[demo]'" in README
    assert f'"{requirement("torch")}"' in image
    minimum = PROJECT["requires-python"].removeprefix(">=")
    version = re.search(r"^FROM python:([\d.]+)-slim$", image, re.MULTILINE)[1]
    assert tuple(map(int, version.split("."))) >= tuple(map(int, minimum.split(".")))
    container = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text("utf-8"))
    assert container["postCreateCommand"] == "pip install -e '.[test]'"
    assert "pip install -e '.[test]'" in README
    assert (ROOT / ".devcontainer" / container["build"]["dockerfile"]).resolve().is_file()
    schemas = container["customizations"]["vscode"]["settings"]["yaml.schemas"]
    assert all((ROOT / path).is_file() for path in schemas)


def test_the_program_of_containers_runs_every_command_of_their_files(tmp_path):
    """Here without a package index: what it would run, and that a command that fails is told."""
    from tests.bench import containers

    image = (ROOT / "Dockerfile").read_text("utf-8")
    (command,) = containers.of_image(image)
    assert command.count("pip install") == image.count("pip install") == 2
    assert containers.of_container('{"postCreateCommand": "true"}') == ["true"]
    steps = containers.of_action((ROOT / "action.yml").read_text("utf-8"))
    assert [bool(re.search(word, step)) for word, step in zip(
        ("pip install", "qatspec validate"), steps, strict=True
    )] == [True, True]  # fmt: skip
    environment = {"PATH": os.environ["PATH"]}
    assert containers.tried("image", ["echo made > file", "test -f file"], tmp_path, environment)
    assert not containers.tried("image", ["false | true", "touch after"], tmp_path, environment)
    assert not (tmp_path / "after").exists()


@pytest.mark.full
@pytest.mark.timeout(1800)
def test_the_commands_of_their_files_run_in_fresh_environments(tmp_path):
    """Minutes of installation, with the package index that pip is configured for."""
    command = [sys.executable, "-m", "tests.bench.containers", str(tmp_path), "--sees-torch"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    ended = re.findall(r"^(\w+): \d+ s, code (\d+)", done.stdout, re.MULTILINE)
    assert {name for name, _ in ended} == {"image", "devcontainer", "action"}


def test_the_entry_of_schemastore_names_the_schema():
    entry = json.loads((ROOT / "docs" / "schemastore.json").read_text("utf-8"))
    assert set(entry) == {"name", "description", "fileMatch", "url"}
    assert (ROOT / "schemas" / entry["url"].rpartition("/")[2]).is_file()


def test_classifiers_agree_with_the_versions_of_python():
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d", c)]
    assert versions[0] == PROJECT["requires-python"].removeprefix(">=")
    assert not any(c.startswith("License") for c in PROJECT["classifiers"])  # PEP 639
