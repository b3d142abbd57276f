"""A folder with specs, and the command line run on it in this process."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    exit_code: int
    out: str
    err: str

    def codes(self) -> list[str]:
        """ "QS201@5:3" for each diagnostic of a command that ran with --format json."""
        found = json.loads(self.out)["diagnostics"]
        return [f"{d['code']}@{d['span']['line']}:{d['span']['col']}" for d in found]


class Project:
    """A temporary folder, which is the current one while the test runs."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def run(self, *args: str) -> Result:
        """Run `qatspec *args`."""
        from qatspec.cli.main import run

        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run(args)
        return Result(code, out.getvalue(), err.getvalue())

    def plan(self, spec: str, *args: str) -> Any:
        """The plan of a spec as `qatspec plan --format json` prints it."""
        result = self.run("plan", spec, *args, "--format", "json")
        assert result.exit_code == 0, result.out + result.err
        return json.loads(result.out)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A fresh project; import it into a conftest.py: `from qatspec.testing import project`."""
    monkeypatch.chdir(tmp_path)
    yield Project(tmp_path)
