"""A parsed value together with the places that it and its key came from.

Merging and substitution build new trees out of old ones and never change one, so that an aliased
subtree can be shared and every value keeps its place whatever happens to it.
"""

from __future__ import annotations

from dataclasses import dataclass

from qatspec.diag import Span
from qatspec.diag.codes import QS107
from qatspec.source.scalars import Scalar

MAX_VALUES = 200_000
MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Tree:
    """One value.

    value    a scalar, or the children.
    span     where the value stands.
    key      where its key stands, for a value of a mapping.
    text     a scalar as it was written.
    replace  tagged `!replace`: merging stops here.
    origin   where the value was defined, when `span` is a reference to it.
    size     number of values in it, repeats counted.
    """

    value: Scalar | dict[str, Tree] | list[Tree]
    span: Span
    key: Span | None = None
    text: str = ""
    replace: bool = False
    origin: Span | None = None
    size: int = 1


def size_of(children: dict[str, Tree] | list[Tree], at: Span) -> int:
    """The size of a collection. Raises DiagnosticError QS107 beyond MAX_VALUES."""
    items = children.values() if isinstance(children, dict) else children
    size = 1 + sum(item.size for item in items)
    if size > MAX_VALUES:
        raise QS107.error(
            f"more than {MAX_VALUES:,} values once aliases and references are expanded",
            help="write the values out, or split the spec",
            span=at,
        )
    return size


def kind_of(value: object) -> str:
    """What a value is called in messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "an integer"
    if isinstance(value, float):
        return "a number"
    if isinstance(value, str):
        return "a text"
    return "a list" if isinstance(value, list | tuple) else "a mapping"
