"""Imports between packages go down only: pyproject.toml holds import-linter's rules of all imports,
.importlinter-runtime those of what is loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATIONS = ("pyproject.toml", ".importlinter-runtime")


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_layers(configuration):
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache", "--config", configuration],
        capture_output=True, text=True, cwd=ROOT, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr


@pytest.mark.parametrize("package", ["kinds", "ops"])
def test_families_are_independent(package, tmp_path):
    """No folder of the package imports another one."""
    folders = sorted(p.parent.name for p in (ROOT / "qatspec" / package).glob("*/__init__.py"))
    assert len(folders) > 5
    modules = "".join(f"\n    qatspec.{package}.{name}" for name in folders)
    rules = tmp_path / "rules.ini"
    rules.write_text(
        "[importlinter]\nroot_package = qatspec\n[importlinter:contract:1]\n"
        f"name = families\ntype = independence\nmodules ={modules}\n"
    )
    test_layers(rules)


def test_an_import_for_an_annotation_counts():
    assert "\nexclude_type_checking_imports = false" in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("configuration", CONFIGURATIONS)
def test_no_exceptions(configuration):
    assert "ignore_imports" not in (ROOT / configuration).read_text()
