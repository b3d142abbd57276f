"""Packages ask ops and kinds for traits: none keeps a list of their names."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from qatspec.kinds import KINDS
from qatspec.registry import registry

ROOT = Path(__file__).parents[2] / "qatspec"
#: The folders that define ops and kinds.
DEFINE = {"kinds", "ops", "referee"}


def lists(source: str) -> list[str]:
    """Each tuple, list or set of several names, all of which are kinds or all ops. The keys of a
    mapping from names to functions do not count: what each name does is written there."""
    tables = (KINDS.keys(), registry().spellings().keys())
    hits = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Tuple | ast.List | ast.Set):
            names = [e.value for e in node.elts if isinstance(e, ast.Constant)]
            complete = len(names) == len(node.elts) > 1
            if complete and any(table >= set(names) for table in tables):
                hits.append(f"{node.lineno}: {names}")
    return hits


def test_no_package_lists_names_of_ops_or_kinds():
    files = [p.relative_to(ROOT) for p in ROOT.rglob("*.py")]
    hits = {str(p): lists((ROOT / p).read_text()) for p in files if p.parts[0] not in DEFINE}
    assert {path: lines for path, lines in hits.items() if lines} == {}


@pytest.mark.parametrize("source", ['op in ("conv2d", "linear")', 'KINDS = {"conv", "requant"}'])
def test_a_list_of_names_is_noticed(source):
    assert lists(source)
