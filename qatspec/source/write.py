"""Plain data as YAML text that reads back as the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qatspec.source import scalars
from qatspec.source.environment import EnvironmentText, is_path
from qatspec.source.pointer import join

#: What JSON leaves as it is but a spec may not hold (`check_text`), or YAML takes for a line end.
_ESCAPED = re.compile("[\x7f-\xa0\u2028\u2029\ufeff\ud800-\udfff\ufffe\uffff]")
_INDENT = "  "


def scalar(value: Any) -> str:
    """A text, number, boolean or null. A `${` in a text is written `$${`: it is no reference."""
    if not isinstance(value, str):
        return json.dumps(value)
    if isinstance(value, EnvironmentText) and not is_path(value):
        text = scalars.written(value.written)  # the reference, which resolves to the same text
    else:
        text = scalars.written(value.replace("${", "$${"))
    return _ESCAPED.sub(lambda match: f"\\u{ord(match.group()):04x}", text)


def flow(value: Any) -> str:
    """Any value on one line: `{size: [64, 64]}`."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{scalar(k)}: {flow(v)}' for k, v in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    return scalar(value)


def block(data: Mapping[str, Any], note: Callable[[str], str] | None = None) -> str:
    """A mapping, one key a line; lists of plain values stay on one line.

    note: what to write as a comment behind the line of the value at a JSON pointer.
    """
    return "".join(f"{line}\n" for line in _mapping(data, "", "", note or (lambda _: "")))


def _mapping(
    data: Mapping[str, Any], at: str, indent: str, note: Callable[[str], str]
) -> Iterator[str]:
    for key, value in data.items():
        pointer = join(at, key)
        head = f"{indent}{scalar(key)}:"
        if isinstance(value, Mapping) and value:
            yield head
            yield from _mapping(value, pointer, indent + _INDENT, note)
        elif isinstance(value, list | tuple) and any(isinstance(v, Mapping) for v in value):
            yield head
            yield from _items(value, pointer, indent + _INDENT, note)
        else:
            yield _noted(f"{head} {flow(value)}", note(pointer))


def _items(
    values: list[Any] | tuple[Any, ...], at: str, indent: str, note: Callable[[str], str]
) -> Iterator[str]:
    for index, value in enumerate(values):
        yield _noted(f"{indent}- {flow(value)}", note(join(at, index)))


def _noted(line: str, words: str) -> str:
    return f"{line}  # {words}" if words else line
