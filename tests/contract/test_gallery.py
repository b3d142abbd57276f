"""The gallery's tables are those of the runs whose figures are kept, and its pictures are there."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/gallery.md").read_text("utf-8")
KEPT = sorted((ROOT / "docs/gallery").glob("*.json"))


@pytest.fixture(scope="module")
def gallery():
    spec = importlib.util.spec_from_file_location("gallery_of_the_docs", ROOT / "docs/gallery.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_each_table_is_that_of_its_run(gallery):
    """Else: python docs/gallery.py."""
    assert gallery.filled(PAGE, gallery.kept()) == PAGE
    assert re.findall(r"<!-- ([\w-]+) -->\n\|", PAGE) and KEPT


def test_a_changed_figure_changes_the_page(gallery):
    runs = gallery.kept()
    name = next(iter(runs))
    metrics = runs[name]["metrics"]["float"]
    metrics[next(iter(metrics))] += 1.0
    assert gallery.filled(PAGE, runs) != PAGE


def test_every_run_and_every_picture_is_shown_and_there():
    assert {path.stem for path in KEPT} == set(re.findall(r"<!-- (\w+) -->\n\|", PAGE))
    readme = (ROOT / "README.md").read_text("utf-8")
    shown = {*re.findall(r"\]\(gallery/([^)]+)\)", PAGE),
             *re.findall(r"\]\(docs/gallery/([^)]+)\)", readme)}  # fmt: skip
    pictures = {path.name: path for path in (ROOT / "docs/gallery").glob("*.webp")}
    assert shown == set(pictures)
    assert all(path.stat().st_size < 120 * 1024 for path in pictures.values())


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_the_figures_name_nothing_of_the_machine(path):
    text = path.read_text("utf-8")
    assert not re.search(r"/(root|home|tmp|work|usr)/", text)
    assert json.loads(text)["metrics"].keys() >= {"float", "qat", "integer"}
