"""Names say what a thing is: words without a meaning of their own name nothing in the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
#: Each could name anything that code finds, has or takes; the name is what it is instead.
VAGUE = {"found", "own", "whole", "place"}


def bound_names(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """(line, name) of every variable, attribute, argument, function and class that code defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr
        elif isinstance(node, ast.ExceptHandler) and node.name:
            yield node.lineno, node.name


def vague(source: str) -> list[str]:
    """ "line: name" of each name that says nothing."""
    return [f"{line}: {name}" for line, name in bound_names(ast.parse(source)) if name in VAGUE]


@pytest.mark.parametrize("folder", ["qatspec", "plugins"])
def test_names_say_what_a_thing_is(folder):
    files = [p.relative_to(ROOT) for p in (ROOT / folder).rglob("*.py")]
    names = {str(p): vague((ROOT / p).read_text()) for p in files}
    assert {path: lines for path, lines in names.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    ["found = 1", "def f(place): ...", "def own(): ...", "class A:\n    whole: int",
     "self.own = []", "if found := f(): ...", "try: ...\nexcept E as found: ...",
     "for place, x in y: ...", "f = lambda own: own"],
)  # fmt: skip
def test_a_vague_name_is_noticed(source):
    assert len(vague(source)) == 1
