"""Texts that hold values of environment variables: they may be secrets, so files keep the reference
in their place, and the terminal shows them only where they are paths."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from itertools import takewhile
from pathlib import Path
from typing import Any

#: A shorter value hides nothing that a reader could not guess, and would be found everywhere.
_SHORTEST = 4
#: From this length on, a value is replaced inside longer words too.
_UNMISTAKABLE = 8
#: So many first characters of a longer value tell it from any other text.
_BEGINNING = 12

#: value -> reference, for every variable that this process has read
_read: dict[str, str] = {}


class EnvironmentText(str):
    """A text with values of environment variables in it; `written` has `${env:NAME}` for each."""

    written: str


def remember(name: str, value: str) -> EnvironmentText:
    """The value of a variable; from now on `hide` replaces it in output."""
    reference = f"${{env:{name}}}"
    if len(value) >= _SHORTEST:
        _read[value] = reference
    return with_values(value, {value: reference})


def with_values(text: str, references: Mapping[str, str]) -> EnvironmentText:
    """`text` as one that holds the values of `references` (value -> reference)."""
    expanded = EnvironmentText(text)
    expanded.written = _replaced(text, references)
    return expanded


def written(value: Any) -> Any:
    """`value` as files keep it: every text from the environment as its reference."""
    if isinstance(value, EnvironmentText):
        return value.written
    if isinstance(value, Mapping):
        return {key: written(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [written(item) for item in value]
    return value


def hide(text: str) -> str:
    """`text` as the terminal shows it: with references for the values of variables that are no
    paths. A value is found as it is, and as JSON or Python quotes it."""
    for value, reference in sorted(_read.items(), key=lambda item: -len(item[0])):
        if is_path(value):
            continue
        for form in {value, json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1],
                     repr(value)[1:-1]}:  # fmt: skip
            if form not in text:
                continue
            loose = len(value) >= _UNMISTAKABLE
            pattern = re.escape(form) if loose else rf"(?<!\w){re.escape(form)}(?!\w)"
            text = re.sub(pattern, lambda _, by=reference: by, text)  # type: ignore[misc]
        text = _without_beginnings(text, value, reference)
    return text


def hide_values(data: Any) -> Any:
    """JSON data with `hide` of every text among its values; keys and all else stay as they are."""
    if isinstance(data, str):
        return hide(data)
    if isinstance(data, Mapping):
        return {key: hide_values(item) for key, item in data.items()}
    if isinstance(data, list | tuple):
        return [hide_values(item) for item in data]
    return data


def _without_beginnings(text: str, value: str, reference: str) -> str:
    """A message may cut a long value; its beginning is hidden too."""
    start = value[:_BEGINNING]
    at = text.find(start) if len(value) > _BEGINNING else -1
    while at >= 0:
        pairs = zip(value, text[at:], strict=False)
        same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        text = text[:at] + reference + text[at + same :]
        at = text.find(start, at + len(reference))
    return text


def is_path(value: str) -> bool:
    """Return whether a value is meant as a path: a file or folder that is there, or an absolute
    path, one of the home or one relative with a dot, of which the first folder is there."""
    if "\0" in value or not value:
        return False
    try:
        path = Path(value).expanduser()
        begins_as_a_path = value.startswith(("/", "~/", "./", "../"))
        return path.exists() or (begins_as_a_path and Path(*path.parts[:2]).exists())
    except (OSError, RuntimeError, ValueError):
        return False


def _replaced(text: str, references: Mapping[str, str]) -> str:
    if not references:
        return text
    longest_first = sorted(references, key=len, reverse=True)
    pattern = "|".join(re.escape(value) for value in longest_first if value)
    return re.sub(pattern, lambda m: references[m.group()], text) if pattern else text
