"""README's pictures show what the commands print today."""

from __future__ import annotations

import html
import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAKER = ROOT / "docs/pictures.py"
COMMITTED = sorted((ROOT / "docs/pictures").glob("*.svg"))
#: Where a number depends on the CPU (training), or a line on code that moved.
VARIES = {
    "noise.svg": re.compile(r"(?<![\w.])\d+\.\d|exact"),
    "graph.svg": re.compile(r"\.py:\d+"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    pytest.importorskip("pty", reason="the pictures are made in a terminal, which needs Unix")
    spec = importlib.util.spec_from_file_location("pictures_of_the_readme", MAKER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.pictures(tmp_path_factory.mktemp("pictures"))


def words(drawing: str, name: str) -> list[str]:
    """The lines of text that a picture shows, without what may differ between machines."""
    texts = [html.unescape(t) for t in re.findall(r"<(?:text|title)[^>]*>([^<]*)<", drawing)]
    varies = VARIES.get(name)
    return [" ".join((varies.sub("", t) if varies else t).split()) for t in texts]


def test_readme_shows_each_picture_and_has_none_that_is_missing():
    shown = re.findall(r"docs/pictures/([\w-]+\.svg)", (ROOT / "README.md").read_text("utf-8"))
    assert sorted(set(shown)) == [path.name for path in COMMITTED]


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_picture_is_small_and_names_nothing_of_the_machine(path):
    drawing = path.read_text("utf-8")
    assert len(drawing.encode()) < 200 * 1024
    assert not re.search(r"/(root|home|tmp|work|usr)/|(url\(|href=).?http", drawing)


@pytest.mark.slow
@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_picture_is_fresh(path, made):
    committed = words(path.read_text("utf-8"), path.name)
    assert committed == words(made[path.name], path.name), "run `python docs/pictures.py`"


@pytest.mark.slow
def test_every_picture_that_is_made_is_committed(made):
    assert sorted(made) == [path.name for path in COMMITTED]
