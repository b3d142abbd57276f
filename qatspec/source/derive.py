"""Documents that differ from another one in some places, and keep the places of all values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from qatspec.source.document import Document, to_document
from qatspec.source.merge import merge
from qatspec.source.pointer import join, split
from qatspec.source.tree import Tree, size_of


def tree_at(document: Document, pointer: str) -> Tree:
    """The value at a pointer, with the places of everything below it. Raises KeyError."""
    value = document.data
    for key in split(pointer):
        value = value[int(key)] if isinstance(value, list) else value[key]
    return _tree(document, pointer, value)


def derive(
    document: Document,
    *,
    without: Sequence[str] = (),
    values: Mapping[str, Tree] | None = None,
    merged: Mapping[str, Tree] | None = None,
) -> Document:
    """A document with other values at some pointers, whose last keys are those of mappings.

    without  pointers of values to omit.
    merged   pointer -> what is merged over the value there, as a file over those that it extends.
    values   pointer -> the value that stands there; mappings around it are made.

    Pointers are omitted first, then values merged, then values set.
    """
    tree = _tree(document, "", document.data)
    for pointer in without:
        tree = _changed(tree, split(pointer), lambda _: None)
    for pointer, over in (merged or {}).items():
        keys = split(pointer)
        tree = _changed(tree, keys, _merging(over, keys[-1]))
    for pointer, value in (values or {}).items():
        tree = _changed(tree, split(pointer), _setting(value))
    return to_document(tree, document.path, document.texts)


def _tree(document: Document, pointer: str, value: Any) -> Tree:
    key, span = document.spans[pointer]
    origin = document.origins.get(pointer)
    if isinstance(value, Mapping):
        items = {k: _tree(document, join(pointer, k), child) for k, child in value.items()}
        return Tree(items, span, key=key, origin=origin, size=size_of(items, span))
    if isinstance(value, list):
        entries = [_tree(document, join(pointer, i), child) for i, child in enumerate(value)]
        return Tree(entries, span, key=key, origin=origin, size=size_of(entries, span))
    return Tree(value, span, key=key, origin=origin)


def _merging(over: Tree, key: str) -> Callable[[Tree | None], Tree]:
    return lambda below: over if below is None else merge(below, over, key=key)


def _setting(value: Tree) -> Callable[[Tree | None], Tree]:
    return lambda _: value


def _changed(tree: Tree, keys: Sequence[str], change: Callable[[Tree | None], Tree | None]) -> Tree:
    assert isinstance(tree.value, dict)
    first, *rest = keys
    below = tree.value.get(first)
    if rest:
        child: Tree | None = _changed(below or Tree({}, tree.span), rest, change)
    else:
        child = change(below)
    items = {k: v for k, v in tree.value.items() if k != first or child is not None}
    if child is not None:
        items[first] = child
    return Tree(items, tree.span, key=tree.key, origin=tree.origin, size=size_of(items, tree.span))
