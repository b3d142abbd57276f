"""The page `docs/add_an_op.md` is followed: its files make an op, and a forgotten part is named."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import qatspec.ops
from qatspec.ops.plugin import qatspec_quant_handlers
from tests.unit.ops.test_families import missing_parts

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "add_an_op.md").read_text("utf-8")
FILE = re.compile(r"^`(qatspec/ops/\w+/(\w+\.py))`(?:(?!```).)*```python\n(.*?)```", re.M | re.S)
FILES = {name: code for _, name, code in FILE.findall(PAGE)}
(FOLDER,) = {path.rpartition("/")[0] for path, _, _ in FILE.findall(PAGE)}
NAME = FOLDER.rpartition("/")[2]
LINE = re.search(r'^packages = \[\n(  "[\w.]+",\n)', PAGE, re.M)[1]
NOT_COPIED = shutil.ignore_patterns(".git", "__pycache__", "build", "generated", "runs", "docs")


def write(folder: Path, **changed: str | None) -> None:
    """Write the page's files into `folder`; changed: a file's text instead, None: no such file."""
    folder.mkdir()
    for name, code in FILES.items():
        text = changed.get(name.removesuffix(".py"), code)
        if text is not None:
            (folder / name).write_text(text)


def test_the_page_has_every_file():
    assert sorted(FILES) == ["__init__.py", "example.py", "onnx.py", "quantize.py", "record.py"]


def test_the_steps_on_a_copy_of_the_repository(tmp_path):
    """The tests that the page names fail without the line, and pass with it, for the new op."""
    copy = tmp_path / "copy"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    write(copy / FOLDER)
    listed = run(copy, "tests/contract/test_packaging.py", "-k", "listed")
    assert listed.returncode == 1 and f"qatspec.ops.{NAME}" in listed.stdout

    project = copy / "pyproject.toml"
    first = '  "qatspec.ops",\n'
    project.write_text(project.read_text().replace(first, first + LINE))
    assert run(copy, "tests/contract/test_packaging.py", "-k", "listed").returncode == 0
    tests = ["tests/unit/ops/test_families.py", "tests/unit/lower/test_layers.py",
             "tests/unit/export/test_float_ops.py"]  # fmt: skip
    done = run(copy, *tests, "-k", NAME)
    assert done.returncode == 0, done.stdout[-3000:]
    assert re.search(r"^6 passed", done.stdout, re.M), done.stdout  # 3 of families, 1 and 2 more


def run(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run tests of the copy; the editable installation does not come first there."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
    return subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)


@pytest.fixture
def family(tmp_path, monkeypatch):
    """The handler of the page's family, where a part of it is forgotten."""

    def made(**changed: str | None):
        write(tmp_path / NAME, **changed)
        monkeypatch.setattr(qatspec.ops, "__path__", [*qatspec.ops.__path__, str(tmp_path)])
        return next(h for h in qatspec_quant_handlers() if h.name == NAME)

    yield made
    for name in [m for m in sys.modules if m.startswith(f"qatspec.ops.{NAME}")]:
        del sys.modules[name]


def test_nothing_is_missing(family):
    assert missing_parts(family()) == []


@pytest.mark.parametrize(
    ("part", "field"), [("quantize", "lower"), ("onnx", "to_onnx"), ("example", "examples")]
)
def test_a_forgotten_file_is_named(family, part, field):
    missing = missing_parts(family(**{part: None}))
    assert f"`{NAME}`: {field}: No module named 'qatspec.ops.{NAME}.{part}'" in missing


def test_a_forgotten_record_is_named(family):
    with pytest.raises(ImportError, match=f"qatspec.ops.{NAME}.record"):
        family(record=None)


@pytest.mark.parametrize(("part", "function"), [("quantize", "lower"), ("onnx", "to_onnx")])
def test_a_forgotten_function_is_named(family, part, function):
    code = FILES[f"{part}.py"].replace(f"def {function}(", "def forgotten(")
    (missing,) = missing_parts(family(**{part: code}))
    assert missing.startswith(f"`{NAME}`: {function}: module 'qatspec.ops.{NAME}.{part}' has no")


def test_a_forgotten_example_is_named(family):
    code = FILES["example.py"].replace(f'module("{NAME}"', 'module("another"')
    assert missing_parts(family(example=code)) == [f"`{NAME}`: no example in `examples`"]


def test_a_forgotten_reference_is_named(family):
    code = re.sub(r", lambda x: [^)]*\)\)", ")", FILES["example.py"])
    assert missing_parts(family(example=code)) == [f"`{NAME}`: no example has a reference"]


def test_an_op_is_named_in_three_files_of_its_family():
    """The table of the page: `PixelUnshuffle` where `PixelShuffle` is there."""
    sources = (ROOT / "qatspec").rglob("*.py")
    named = {p for p in sources if re.search("pixel_?unshuffle", p.read_text("utf-8"), re.I)}
    folder = ROOT / "qatspec" / "ops" / "shuffles"
    assert named == {folder / name for name in ("record.py", "calls.py", "example.py")}
