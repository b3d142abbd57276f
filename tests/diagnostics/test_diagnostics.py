"""A folder a code: a bad spec, the text that a person reads, and the fixed spec.

    QS201_unknown_key/
        spec.yaml       the bad spec (bytes as they are)
        set.txt         overrides, one a line (optional)
        plugin.py       a broken plugin that is installed beside the good one (optional)
        expected.txt    what `qatspec validate spec.yaml` prints, from inside the folder
        fixed.yaml      the fixed spec: it must pass (where meaningful)

QATSPEC_BLESS=1 writes expected.txt anew; read what it wrote.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from pathlib import Path

import pytest

from qatspec.diag import CODES, DiagnosticError
from qatspec.registry.plugins import load_entry_point
from qatspec.render import render
from qatspec.spec import fix_files, load, warnings

HERE = Path(__file__).parent
CASES = sorted(p.parent for p in HERE.glob("QS*/spec.yaml"))
ALLOW_CODE = {"QS007"}
#: Codes of the front half whose cause does not fit into a spec file; tested where it says.
ELSEWHERE = {
    "QS010": "tests/conformance/test_broken_models.py",
    "QS109": "tests/unit/source/test_text.py",
    "QS114": "tests/unit/source/test_fixes.py",
    "QS312": "tests/unit/prepare",
    "QS314": "tests/unit/prepare",
}


#: Cases whose fix needs no decision.
WRITTEN_BY_FIX = {
    "QS101_misspelt_extends",
    "QS102_colon_in_text",
    "QS102_equals_sign",
    "QS102_full_width_colon",
    "QS102_key_alone",
    "QS102_nested_key_alone",
    "QS102_no_space_behind_colon",
    "QS102_unquoted_reference",
    "QS110_python_tuple",
    "QS112_control_character",
    "QS201_include",
    "QS201_non_breaking_space",
    "QS201_params_of_the_model",
    "QS201_tutorials_names",
    "QS201_unknown_key",
    "QS202_no_version",
    "QS203_quoted_number",
    "QS203_yaml_1_1_boolean",
    "QS301_unknown_dataset",
    "QS301_unknown_march",
    "QS301_unknown_observer",
    "QS301_unknown_preset",
    "QS302_undeclared_variable",
    "QS308_torch_spelling",
    "QS308_tutorials_functional_add",
    "QS309_chip_for_march",
}


def _module(name: str, path: Path):
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


fake = _module("qatspec_test_fake_plugin", HERE / "plugin.py")


class _Dist:
    name, version = "broken-plugin", "0.3"


class _EntryPoint:
    """What importlib.metadata gives for an installed plugin whose module is `path`."""

    name, dist = "broken", _Dist

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self):
        return _module(f"broken_{self.path.parent.name}", self.path)


def _registry(case: Path):
    extra = case / "plugin.py"
    return fake.fake_registry(*([load_entry_point(_EntryPoint(extra))] if extra.exists() else []))


def validate(case: Path, name: str = "spec.yaml") -> str:
    """What `validate` prints, "" for a spec without findings."""
    registry = _registry(case)
    sets = case / "set.txt"
    overrides = sets.read_text().splitlines() if sets.exists() and name == "spec.yaml" else []
    try:
        spec = load(name, overrides, allow_code=case.name[:5] in ALLOW_CODE, registry=registry)
    except DiagnosticError as error:
        return render(error.diagnostics, error.texts)
    return render(warnings(spec, registry), spec.document.texts)


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_text(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    monkeypatch.delenv("COCO_ROOT", raising=False)
    shown = validate(case) + "\n"
    expected = case / "expected.txt"
    if os.environ.get("QATSPEC_BLESS"):
        expected.write_text(shown)
    assert shown == expected.read_text()
    assert f"[{case.name[:5]}]" in shown


@pytest.mark.parametrize(
    "case", [c for c in CASES if (c / "fixed.yaml").exists()], ids=lambda p: p.name
)
def test_the_fixed_spec_passes(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(case)
    monkeypatch.setenv("COCO_ROOT", "data")
    assert validate(case, "fixed.yaml") == ""


@pytest.mark.parametrize("case", CASES, ids=lambda p: p.name)
def test_fix_writes_the_fixed_spec(
    case: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `validate --fix` corrects anything, it corrects everything, as a person would."""
    shutil.copytree(case, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("COCO_ROOT", raising=False)
    allowed = case.name[:5] in ALLOW_CODE
    done = fix_files("spec.yaml", allow_code=allowed, registry=_registry(case))
    assert bool(done) == (case.name in WRITTEN_BY_FIX)
    wanted = "fixed.yaml" if done else "spec.yaml"
    assert Path("spec.yaml").read_bytes() == (case / wanted).read_bytes()


def test_every_code_of_the_front_half_has_a_folder() -> None:
    have = {case.name[:5] for case in CASES}
    front = {code for code in CODES if code < "QS5"}
    assert front - have == set(ELSEWHERE)


@pytest.mark.parametrize("code", sorted(CODES))
def test_every_code_has_a_page(code: str) -> None:
    assert len(CODES[code].page) > 80, "a page says what happened, why, and how to fix it"
    assert "**Fix.** " in CODES[code].page
