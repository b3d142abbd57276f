"""What tests of `qatspec new` share: a folder for pictures, libraries of models, the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from qatspec.cli.main import run
from tests.libraries import fake_libraries


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    return tmp_path / "pictures"


@pytest.fixture
def libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_libraries(monkeypatch)


def call(*arguments: str, code: int = 0) -> None:
    assert run([str(a) for a in arguments]) == code
