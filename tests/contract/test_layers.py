"""Imports between packages go down only; pyproject.toml holds import-linter's contracts."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_layers():
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


def test_no_exceptions():
    assert "ignore_imports" not in (ROOT / "pyproject.toml").read_text()
