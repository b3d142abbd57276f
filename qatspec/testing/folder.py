"""A folder with specs, checked and planned in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.plan import Plan, resolve
from qatspec.registry import Registry
from qatspec.render import render
from qatspec.spec import Spec, load, warnings


@dataclass(frozen=True, slots=True)
class Result:
    """What `check` found: the spec, if it can run, and every diagnostic."""

    spec: Spec | None
    diagnostics: tuple[Diagnostic, ...]
    text: str

    def assert_codes(self, *expected: str) -> None:
        """`assert_codes("QS201@5:3")`: these diagnostics at these places, in order, no others."""
        reported = [f"{d.code}@{d.span.line}:{d.span.col}" for d in self.diagnostics if d.span]
        assert reported == list(expected), self.text


class Project:
    """A temporary folder, which is the current one while the test runs.

    registry: where names are looked up; default: the installed plugins.
    """

    def __init__(self, path: Path, registry: Registry | None = None) -> None:
        self.path = path
        self.registry = registry

    def write(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def check(self, spec: str, overrides: Sequence[str] = ()) -> Result:
        """What `qatspec validate` says of a spec."""
        try:
            loaded = load(spec, overrides, registry=self.registry)
        except DiagnosticError as error:
            return Result(None, error.diagnostics, render(error.diagnostics, error.texts))
        diagnostics = warnings(loaded, self.registry)
        return Result(loaded, diagnostics, render(diagnostics, loaded.document.texts))

    def plan(self, spec: str, overrides: Sequence[str] = ()) -> Plan:
        """The plan of a spec. Raises DiagnosticError."""
        return resolve(load(spec, overrides, registry=self.registry), registry=self.registry)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A fresh project; import it into a conftest.py: `from qatspec.testing import project`."""
    monkeypatch.chdir(tmp_path)
    return Project(tmp_path)
