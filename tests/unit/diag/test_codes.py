"""Diagnostic codes are objects, and each has its page beside it."""

import ast
import copy
import os
import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

import qatspec.diag.codes
from qatspec.diag import CODES, Code, Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS505

ROOT = Path(__file__).parents[3]
FOLDER = Path(qatspec.diag.codes.__file__).parent
SOURCES = [
    path
    for top in ("qatspec", "plugins")
    for path in sorted((ROOT / top).rglob("*.py"))
    if FOLDER.name not in path.relative_to(ROOT).parts
]
DEFINITION = re.compile(r'^(\w+) = Code\(\s*"(QS\d{3})"', re.M)


def test_every_code_is_defined_once_under_its_own_name():
    defined = [
        found
        for path in sorted(FOLDER.glob("*.py"))
        for found in DEFINITION.findall(path.read_text())
    ]
    assert all(name == text for name, text in defined)
    assert sorted(name for name, _ in defined) == sorted(CODES)
    assert len(defined) == len(CODES)
    assert len({code.headline for code in CODES.values()}) == len(CODES)


def test_every_code_has_a_page_and_every_page_a_code():
    assert {page.stem for page in FOLDER.glob("*.md")} == set(CODES)


def test_every_code_is_used():
    nodes = [node for path in SOURCES for node in ast.walk(ast.parse(path.read_text()))]
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert set(CODES) - used == set()


def test_no_code_is_written_as_a_string():
    written = {
        f"{path.relative_to(ROOT)}: {found}"
        for path in SOURCES
        for found in re.findall(r"""["']QS\d{3}["']""", path.read_text())
    }
    assert written == set()


def test_what_a_code_makes():
    place = Span("spec.yaml", 3, 1)
    error = QS505.error("m", help="h", span=place, key=True)
    assert isinstance(error, DiagnosticError)
    (found,) = error.diagnostics
    assert found == Diagnostic(code=QS505, message="m", help="h", span=place, key=True)
    assert QS505.diagnostic("m").severity == "error"
    assert QS505.warning("m", at="/a") == QS505.diagnostic("m", "warning", at="/a")


@pytest.mark.parametrize("through", [copy.deepcopy, lambda d: pickle.loads(pickle.dumps(d))])
def test_a_diagnostic_passes_between_processes(through):
    found = through(QS505.warning("m"))
    assert found == QS505.warning("m")
    assert isinstance(found.code, Code)
    assert found.code.headline == QS505.headline
    assert found.code.about == QS505.about == "/model"


def test_a_plain_string_is_no_code():
    with pytest.raises(TypeError, match=r"codes\.QS911\.error"):
        Diagnostic(code="QS505", message="m")


@pytest.mark.slow
def test_mypy_knows_codes_and_their_keywords(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "case.py").write_text(
        "from qatspec.diag import Diagnostic, DiagnosticError, codes\n"
        "good: DiagnosticError = codes.QS505.error('m', help='h', notes=())\n"
        "codes.QS099.error('m')\n"
        "codes.QS505.error('m', halp='h')\n"
        "codes.QS505.error('m', span='spec.yaml')\n"
        "Diagnostic(code='QS505', message='m')\n"
    )
    command = [sys.executable, "-m", "mypy", "--strict", "--no-incremental", "case.py"]
    command += ["--follow-imports=silent"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    lines = [line.split(":", 2) for line in done.stdout.splitlines() if " error: " in line]
    told = {int(line): message for _, line, message in lines}
    assert set(told) == {3, 4, 5, 6}, done.stdout + done.stderr
    assert "attr-defined" in told[3]
    assert "call-arg" in told[4]
    assert "arg-type" in told[5]
    assert "arg-type" in told[6]
