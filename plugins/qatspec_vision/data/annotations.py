"""COCO's annotation file: read up to a limit, and every value that counts held against its type.
Standard library only."""

from __future__ import annotations

import codecs
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qatspec.api import (
    DiagnosticError,
    Span,
    codes,
    open_file,
    read_file,
    why_unreadable,
)

#: The largest published files (Objects365, Open Images) have 4 to 6 GB.
MAX_BYTES = 8 << 30
_SHOWN = 60
#: Ids are whole numbers of 64 bits, as in pycocotools.
_MAX_ID = 1 << 63

Check = Callable[[Any], bool]


def read(path: Path) -> dict[str, Any]:
    """The file as COCO's own mapping (cocodataset.org/#format-data), each value of its type.

    What a box holds is not looked at: one that cannot be used is left out by itself.
    Raises DiagnosticError QS912 with the file, the entry and what it should hold.
    """
    content = _parsed(path)
    if not isinstance(content, dict):
        raise malformed(path, f"the top level is {said(content)}; expected a mapping")
    for section, keys in _SECTIONS.items():
        entries = content.get(section)
        if not isinstance(entries, list):
            what = said(entries) if section in content else "missing"
            raise malformed(path, f"`{section}` is {what}; expected a list of mappings")
        for index, entry in enumerate(entries):
            _check(path, f"{section}[{index}]", entry, keys)
    for section in ("images", "categories"):
        _demand_distinct(path, section, content[section])
    if not content["images"]:
        raise malformed(path, "`images` is empty")
    return content


def malformed(path: Path, why: str) -> DiagnosticError:
    """QS912 for an annotation file."""
    return codes.QS912.error(
        f"`{path.name}` is not a COCO detection file: {why}",
        help="correct the entry, or write the file again with the tool that made it; "
        "cocodataset.org/#format-data says what each key holds",
        span=Span(file=str(path)),
    )


def _parsed(path: Path) -> Any:
    try:
        with open_file(path) as file:
            start = file.read(64).removeprefix(b"\xef\xbb\xbf").lstrip()
        if not start.startswith(b"{"):  # known before gigabytes of something else are read
            if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise malformed(path, "it is UTF-16 text; save it as UTF-8")
            raise malformed(path, "it does not start with `{`, as a JSON mapping does")
        return json.loads(read_file(path, MAX_BYTES))
    except OSError as error:
        raise malformed(path, why_unreadable(error)) from error
    except RecursionError as error:
        raise malformed(path, "it is nested too deeply") from error
    except ValueError as error:
        raise malformed(path, str(error)) from error


def _check(path: Path, what: str, entry: Any, keys: Mapping[str, tuple[Check, str, bool]]) -> None:
    if not isinstance(entry, dict):
        raise malformed(path, f"{what} is {said(entry)}; expected a mapping")
    for key, (right, expected, required) in keys.items():
        if key not in entry:
            if required:
                raise malformed(path, f"{_named(what, entry)} has no `{key}`; expected {expected}")
        elif not right(entry[key]):
            what = f"`{key}` of {_named(what, entry)} is {said(entry[key])}"
            raise malformed(path, f"{what}; expected {expected}")


def _demand_distinct(path: Path, section: str, entries: list[dict[str, Any]]) -> None:
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        other = first.setdefault(entry["id"], index)
        if other != index:
            both = f"{section}[{other}] and {section}[{index}]"
            raise malformed(path, f"{both} have the same id {entry['id']}")


def _named(what: str, entry: Mapping[str, Any]) -> str:
    """An entry with its id, and the image it belongs to."""
    ids = [f"{key} {said(entry[key])}" for key in ("id", "image_id") if key in entry]
    return f"{what} ({', '.join(ids)})" if ids else what


def said(value: Any) -> str:
    """A value as JSON has it, cut where it is long."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else f"a list of {len(value)}"
    return cut(json.dumps(value, ensure_ascii=False))


def cut(text: str) -> str:
    """A text of at most as many characters as a message can hold."""
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _is_id(value: Any) -> bool:
    return type(value) is int and -_MAX_ID <= value < _MAX_ID


def _text(value: Any) -> bool:
    """A text that can be written to a file: without halves of surrogate pairs and NUL."""
    return isinstance(value, str) and not any(c == "\0" or "\ud800" <= c <= "\udfff" for c in value)


def _file_name(value: Any) -> bool:
    return _text(value) and value != ""


def _size(value: Any) -> bool:
    number = type(value) in (int, float) and abs(value) < _MAX_ID
    return number and math.isfinite(value) and value >= 0


def _size_if_known(value: Any) -> bool:
    """Also null, which some tools write for a size that the picture itself tells."""
    return value is None or _size(value)


def _anything(value: Any) -> bool:
    return True


def _flag(value: Any) -> bool:
    return type(value) in (int, bool) and value in (0, 1)


_ID = (_is_id, "a whole number", True)
#: section -> key -> (is the value right, what it should be, is the key required)
_SECTIONS: Mapping[str, Mapping[str, tuple[Check, str, bool]]] = {
    "images": {
        "id": _ID,
        "file_name": (_file_name, "the name of a file", True),
        "width": (_size_if_known, "a number that is not negative", False),
        "height": (_size_if_known, "a number that is not negative", False),
    },
    "annotations": {
        "image_id": _ID,
        "category_id": _ID,
        "bbox": (_anything, "[x, y, width, height]", True),
        "iscrowd": (_flag, "0 or 1", False),
        "area": (_size, "a number that is not negative", False),
    },
    "categories": {"id": _ID, "name": (_text, "a text", True)},
}
