"""`qatspec plugins check` and `qatspec plugins new` in this process."""

from __future__ import annotations

import json

import pytest

from qatspec.cli.main import run
from qatspec.cli.scaffold import KINDS
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
    assert "my_thing.plugin" in (tmp_path / "my-thing" / "pyproject.toml").read_text()


def test_new_refuses(tmp_path, capsys):
    new = ["plugins", "new", "--kind", "model", "--output", str(tmp_path)]
    assert run([*new, "class"]) == 2
    assert run([*new, "9lives"]) == 2
    assert "no name of a package" in capsys.readouterr().err
    assert run([*new, "twice"]) == 0
    assert run([*new, "twice"]) == 1
    assert "QS906" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["json", "torch", "qatspec-vision"])
def test_new_refuses_to_hide_a_module(name, tmp_path, capsys):
    assert run(["plugins", "new", name, "--kind", "model", "--output", str(tmp_path)]) == 2
    assert f"the module `{name.replace('-', '_')}` is there already" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
