"""Deep merge of an extending file over the files it extends: later wins."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from qatspec.source.tree import Tree, size_of

#: Kinds of qconfig rules: their order decides, so a later file's rules come first.
_RULE_KINDS = frozenset(
    ("object_type", "module_name_regex", "module_name", "module_name_object_type_order")
)


def merge(base: Tree, over: Tree, *, key: str = "", inside: str = "") -> Tree:
    """`over` merged into `base`; neither is changed.

    Mappings merge key by key, lists of mappings that all have a `name` by that name, qconfig rules
    by putting the later ones first; everything else, and what is tagged `!replace`, is replaced.
    """
    if over.replace:
        return over
    if key in _RULE_KINDS and inside == "qconfig":
        merged = _merge_rules(base, over)
        if merged is not None:
            return merged
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        items = dict(base.value)
        for name, child in over.value.items():
            below = items.get(name)
            items[name] = child if below is None else merge(below, child, key=name, inside=key)
        return replace(over, value=items, size=size_of(items, over.span))
    if isinstance(base.value, list) and isinstance(over.value, list):
        return _merge_named(base, over, key)
    return over


def _merge_named(base: Tree, over: Tree, key: str) -> Tree:
    below, above = _by_name(base), _by_name(over)
    if not below or not above:  # an empty list says that there is nothing
        return over
    merged = {
        name: merge(child, above[name], inside=key) if name in above else child
        for name, child in below.items()
    }
    items = list({**merged, **{n: c for n, c in above.items() if n not in merged}}.values())
    return replace(over, value=items, size=size_of(items, over.span))


def _by_name(tree: Tree) -> dict[str, Tree] | None:
    named: dict[str, Tree] = {}
    for item in cast("list[Tree]", tree.value):
        name = item.value.get("name") if isinstance(item.value, dict) else None
        if name is None or not isinstance(name.value, str) or name.value in named:
            return None
        named[name.value] = item
    return named


def _merge_rules(base: Tree, over: Tree) -> Tree | None:
    below, above = _pairs(base), _pairs(over)
    if below is None or above is None:
        return None
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        rest = {name: child for name, child in base.value.items() if name not in over.value}
        items: dict[str, Tree] | list[Tree] = {**over.value, **rest}
    else:
        items = above + below
    return replace(over, value=items, size=size_of(items, over.span))


def _pairs(tree: Tree) -> list[Tree] | None:
    """Rules as a list of pairs, whichever way they were written."""
    if isinstance(tree.value, list):
        return tree.value
    if not isinstance(tree.value, dict):
        return None
    return [
        Tree(
            [Tree(name, child.key or child.span, text=name), child], child.span, size=child.size + 2
        )
        for name, child in tree.value.items()
    ]
