"""`--set a.b.c=value`: values of the command line, with the same places and types as a file's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS302, QS306
from qatspec.diag.words import suggest
from qatspec.source.parse import COMMAND_LINE as FILE, parse
from qatspec.source.text import check_text, split_lines
from qatspec.source.tree import MAX_DEPTH, Tree, kind_of, size_of


def apply(tree: Tree, overrides: Sequence[str]) -> Tree:
    """`tree` with each override in order. Raises DiagnosticError QS306, QS302 or what YAML says."""
    for number, text in enumerate(overrides, start=1):
        check_text(text, FILE)
        path, equals, value = text.partition("=")
        setting = Span(FILE, number, 1, number, len(text) + 1)
        keys = path.split(".")
        if not equals or not all(keys) or len(split_lines(text)) > 1 or len(keys) > MAX_DEPTH:
            message = f"`{text}` is not of the form `a.b.c=value`"
            raise _fail(message, setting, "for example `--set vars.batch_size=8`")
        if keys[0] == "extends":
            raise _fail("`extends` cannot be set", setting, "write another spec that extends these")
        start = len(path) + 2
        empty = Tree(None, Span(FILE, number, start, number, start))
        new = parse(value, FILE, line=number, col=start) or empty
        tree = _set(tree, keys, 0, new, number)
    return tree


def _set(tree: Tree, keys: list[str], depth: int, new: Tree, number: int) -> Tree:
    if depth == len(keys):
        return new
    key = keys[depth]
    start = sum(len(k) + 1 for k in keys[:depth]) + 1
    span = Span(FILE, number, start, number, start + len(key))
    if isinstance(tree.value, list):
        if not key.isdecimal() or int(key) >= len(tree.value):
            message = f"`{'.'.join(keys[:depth])}` is a list of {len(tree.value)}, not `{key}`"
            raise _fail(message, span, "give an index from 0, or set the whole list")
        items = list(tree.value)
        items[int(key)] = _set(items[int(key)], keys, depth + 1, new, number)
        return replace(tree, value=items, size=size_of(items, span))
    if tree.value is None:
        children: dict[str, Tree] = {}
    elif isinstance(tree.value, dict):
        children = dict(tree.value)
    else:
        message = f"`{'.'.join(keys[:depth])}` is {kind_of(tree.value)}, it has no `{key}`"
        raise _fail(message, span, "set the value itself, or correct the path")
    if keys[0] == "vars" and depth > 0 and key not in children:
        raise QS302.error(
            f"no file declares `{'.'.join(keys[: depth + 1])}`",
            help=suggest(key, list(children)) or "declare it under `vars:`",
            span=span,
        )
    below = children.get(key, Tree({}, span))
    passed = depth + 1 < len(keys) and below.key is not None
    child = _set(below, keys, depth + 1, new, number)
    children[key] = replace(child, key=below.key if passed else span)
    return replace(tree, value=children, size=size_of(children, span))


def _fail(message: str, span: Span, advice: str) -> DiagnosticError:
    return QS306.error(message, help=advice, span=span)
