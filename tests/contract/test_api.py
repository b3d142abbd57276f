"""qatspec.api: what type checkers see is what is there."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import qatspec.api


def test_type_checkers_see_the_table():
    tree = ast.parse(Path(qatspec.api.__file__).read_text(encoding="utf-8"))
    (block,) = [n for n in tree.body if isinstance(n, ast.If)]
    seen = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == qatspec.api._HOME


def test_every_name_is_there():
    for name, home in qatspec.api._HOME.items():
        assert getattr(qatspec.api, name) is getattr(importlib.import_module(home), name)
