"""Every code block of the documentation: commands and options exist, YAML parses, Python runs."""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import click
import pytest

from qatspec.cli.main import COMMANDS, cli
from qatspec.source.parse import parse

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for pattern in ("*.md", "docs/*.md", "schemas/*.md", "plugins/*.md", "specs/*.md",
                    "qatspec/adr/*.md", "tests/diagnostics/*.md")
    for page in ROOT.glob(pattern)
)  # fmt: skip
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.MULTILINE | re.DOTALL)


def blocks(language: str) -> list:
    """A parameter for each block of the language: its text, named by file and line."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in BLOCK.finditer(text):
            if match[2] == language:
                line = text.count("\n", 0, match.start()) + 2
                code = textwrap.dedent(match[3])
                found.append(pytest.param(code, id=f"{page.relative_to(ROOT)}:{line}"))
    return found


def commands(code: str):
    """The words of every command line in a shell block."""
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|", line.partition(" #")[0]):
            words = [w for w in shlex.split(part) if not re.match(r"[A-Z_]+=", w)]
            if words:
                yield words


@pytest.mark.parametrize("code", blocks("sh"))
def test_a_command_exists_with_its_options(code):
    for words in commands(code):
        if words[0] == "qatspec":
            check_qatspec(words[1:])
        elif words[0] == "python" and words[1:2] and words[1].endswith(".py"):
            assert (ROOT / words[1]).is_file(), words[1]


def check_qatspec(words: list[str]) -> None:
    """The subcommand exists, and so does every option; files of the project exist."""
    command: click.Command = cli
    context = click.Context(cli)
    while isinstance(command, click.Group):
        name = words.pop(0)
        command = command.get_command(context, name)
        assert command is not None, name
    options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
    for word in words:
        if word.startswith("--"):
            assert word.partition("=")[0] in options, f"{command.name} has no {word}"
        if word.startswith("specs/"):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize("code", blocks("yaml"))
def test_yaml_parses(code):
    assert parse(code, "block.yaml") is not None


@pytest.mark.parametrize("code", blocks("python"))
def test_python_compiles_and_its_imports_exist(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "qatspec":
            module = importlib.import_module(str(node.module))
            for name in node.names:
                assert hasattr(module, name.name), f"{node.module} has no {name.name}"


def test_the_python_of_the_readme_runs(tmp_path, monkeypatch):
    import torch
    from torch import nn

    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    code = textwrap.dedent(BLOCK.search((ROOT / "README.md").read_text("utf-8").partition(
        "## From Python"
    )[2])[3])  # fmt: skip
    images = torch.rand(2, 3, 16, 16) - 0.5
    model = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    observe = "prepared.model(images)\nset_stage(prepared, 'qat'); set_stage(prepared, 'eval')"
    assert "\n...\n" in code  # where the reader calibrates and trains
    names = {"model": model.eval(), "images": images}
    exec(code.replace("\n...\n", f"\n{observe}\n"), names)
    (outputs,) = names["outputs"]
    assert outputs.shape == (2, 8, 14, 14)


@pytest.mark.parametrize("code", blocks("toml"))
@pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib is part of Python 3.11")
def test_toml_parses(code):
    import tomllib

    tomllib.loads(code)


def test_every_command_is_documented():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "".join(page.read_text("utf-8") for page in pages)
    for name in COMMANDS:
        assert f"qatspec {name}" in text or f"`{name} " in text, name


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-E", "-q", "-d", tmp_path / "trees"]
    done = subprocess.run(
        [*command, ROOT / "docs", tmp_path / "site"], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "QS201" in (tmp_path / "site/generated/diagnostics.html").read_text("utf-8")
