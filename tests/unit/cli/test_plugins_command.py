"""`qatspec plugins check` and `qatspec plugins new` in this process."""

from __future__ import annotations

import importlib
import json
import re

import numpy as np
import pytest

from qatspec import __version__
from qatspec.api import DiagnosticError, ProgramBuilder, Verdict
from qatspec.cli.main import run
from qatspec.cli.scaffold import KINDS
from qatspec.registry import KINDS as REGISTERED, registry
from qatspec.testing.kit import CHECKS


def test_check_prints_a_row_a_check(capsys):
    assert run(["plugins", "check", "observers"]) == 0
    *rows, last = capsys.readouterr().out.splitlines()
    assert last == f"{len(rows)} passed, 0 failed, 0 skipped"
    assert rows[0].split() == ["passed", "observers", "plugin", "api_version"]
    assert any("observer percentile" in row for row in rows)


def test_check_as_json(capsys):
    assert run(["--format", "json", "plugins", "check", "observers"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["format_version"] == 1
    names = {check.name for check in CHECKS}
    assert {row["check"] for row in found["checks"]} <= names
    assert {row["status"] for row in found["checks"]} == {"passed"}


def test_check_needs_no_pytest(monkeypatch, capsys):
    monkeypatch.setitem(__import__("sys").modules, "pytest", None)
    assert run(["plugins", "check", "fuse_patterns"]) == 0


@pytest.mark.parametrize("kind", KINDS)
def test_new_writes_sources_that_compile(kind, tmp_path, capsys):
    assert run(["plugins", "new", "my-thing", "--kind", kind, "--output", str(tmp_path)]) == 0
    sources = sorted((tmp_path / "my-thing").rglob("*.py"))
    assert len(sources) == 4
    for source in sources:
        text = source.read_text()
        compile(text, str(source), "exec")
        assert "$" not in text
        assert all(len(line) <= 100 for line in text.splitlines()), source
    readme = (tmp_path / "my-thing" / "README.md").read_text()
    assert "$" not in readme
    assert all(
        (tmp_path / "my-thing" / path).is_file() for path in re.findall(r"`(\w+/.+?)`", readme)
    )
    assert "my_thing.plugin" in (tmp_path / "my-thing" / "pyproject.toml").read_text()


def test_a_new_march_compiles_nothing_that_it_does_not_support(tmp_path, monkeypatch):
    run(["plugins", "new", "my-chip", "--kind", "march", "--output", str(tmp_path)])
    monkeypatch.syspath_prepend(tmp_path / "my-chip" / "src")
    compiler = importlib.import_module("my_chip.compiler")
    builder = ProgramBuilder("a maximum")
    x = builder.input("x", "int8", (4,), scale=1.0)
    kind = {"axes": (1,), "keepdim": False}
    y = builder.emit("reduce_max", [x], name="y", scale=np.ones(1, np.float32), **kind)
    program = builder.finish([y])
    assert compiler.compile_program(program, {}).march == "my_chip"
    monkeypatch.setattr(
        compiler, "supports", lambda op, program: Verdict(False, "it has no maxima")
    )
    with pytest.raises(DiagnosticError, match="QS801: `y`: it has no maxima"):
        compiler.compile_program(program, {})


def test_show_a_name_with_its_params(capsys):
    assert run(["plugins", "show", "fcos"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("model fcos: ")
    assert lines[1].split() == ["from", "vision", f"(qatspec=={__version__})"]
    rows = {line.split()[0]: line for line in lines if line.strip()}
    assert rows["num_classes"].split("  ")[0] == "num_classes"
    assert "integer >= 1" in rows["num_classes"] and "required" in rows["num_classes"]
    assert "32" in rows["backbone.stem"] and "before width scaling." in rows["backbone.stem"]
    assert "`3`, `5`, `7`" in rows["backbone.blocks[].kernel"]


@pytest.mark.parametrize("kind", REGISTERED)
def test_show_every_registered_name(kind, capsys):
    names = registry().names(kind)
    assert names
    for name in names:
        assert run(["plugins", "show", name]) == 0
        assert f"{name}: {registry().record(kind, name).summary}\n" in capsys.readouterr().out
    assert run(["plugins", "show", names[0], "--format", "json"]) == 0
    rows = json.loads(capsys.readouterr().out)["registered"]
    assert kind in {row["kind"] for row in rows}


def test_show_by_alias_and_unknown(capsys):
    assert run(["plugins", "show", "HorizonQConfig"]) == 0
    assert capsys.readouterr().out.startswith("qconfig preset horizon_qat: ")
    assert run(["plugins", "show", "fcoss"]) == 1
    assert "did you mean `fcos`?" in capsys.readouterr().err


def test_check_of_a_package_that_is_not_installed_says_how(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run(["plugins", "new", "far-net", "--kind", "model"]) == 0
    assert run(["plugins", "check", "far-net"]) == 1
    assert "help: install it first: pip install -e far-net" in capsys.readouterr().err
    assert run(["plugins", "check", "observer"]) == 1
    assert "`observers`" in capsys.readouterr().err


def test_new_refuses(tmp_path, capsys):
    new = ["plugins", "new", "--kind", "model", "--output", str(tmp_path)]
    assert run([*new, "class"]) == 2
    assert run([*new, "9lives"]) == 2
    assert "is not a package name" in capsys.readouterr().err
    assert run([*new, "twice"]) == 0
    assert run([*new, "twice"]) == 1
    assert "QS906" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["json", "torch", "qatspec-vision"])
def test_new_refuses_to_hide_a_module(name, tmp_path, capsys):
    assert run(["plugins", "new", name, "--kind", "model", "--output", str(tmp_path)]) == 2
    assert f"the module `{name.replace('-', '_')}` is there already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
