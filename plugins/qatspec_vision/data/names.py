"""Class names that a spec lists, or a file beside the data. Standard library and PyYAML only."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from qatspec.api import why_unreadable
from qatspec_vision.data.files import lines, missing
from qatspec_vision.data.problems import Problems
from qatspec_vision.data.texts import read_text

_MAX_BYTES = 64 << 20
#: A class of more than these is a number of something else.
_MAX_CLASSES = 100_000
#: Digits of a number that counts classes or grey levels.
_DIGITS = 10
Colour = tuple[int, int, int]


class Names(NamedTuple):
    """Classes in label order. colours: of each class, where the file says them. keypoints: the
    file says that labels hold points behind their box."""

    classes: list[str]
    colours: list[Colour] | None = None
    keypoints: bool = False


def class_names(names: str | Sequence[str], root: Path) -> Names:
    """The class names of a spec: a list of them, or a file relative to `root`.

    A YAML file has `names` (a list, or a mapping from number to name); a CSV file the columns
    name, r, g, b; any other file a name on each line.
    Raises DiagnosticError: QS910 where the file is not there, QS958 for one that holds no names,
    is not UTF-8 or counts its classes wrongly, and for two classes of one name.
    """
    if not isinstance(names, str):
        problems = Problems()
        _demand_distinct(root, names, problems)
        problems.stop()
        return Names(list(names))
    path = root / names
    try:
        text = read_text(path, _MAX_BYTES)
    except OSError as error:
        advice = "name the file of class names by `classes`, or list the names there"
        raise missing(path, why_unreadable(error), advice) from error
    problems = Problems()
    match path.suffix.lower():
        case ".yaml" | ".yml":
            read_names = Names(_of_yaml(path, text, problems), keypoints="kpt_shape:" in text)
        case ".csv":
            read_names = _of_csv(path, text, problems)
        case _:
            stripped = [line.strip() for line in lines(text)]
            read_names = Names([line for line in stripped if line])
    if not read_names.classes:
        problems.add(path, 0, f"`{path.name}` holds no class names", _FORMS)
    _demand_distinct(path, read_names.classes, problems, text)
    problems.stop()
    return read_names


def _demand_distinct(
    path: Path, classes: Sequence[str], problems: Problems, text: str = ""
) -> None:
    """Note classes of one name: the metric of each is told by its name. text: of the file, whose
    line of the second is shown."""
    first: dict[str, int] = {}
    for number, name in enumerate(classes):
        if name and first.setdefault(name, number) != number:
            holding = [i for i, line in enumerate(lines(text), start=1) if name in line]
            where = holding[-1] if holding else 0
            message = f"classes {first[name]} and {number} have the same name, `{name}`"
            advice = (
                "give each class a name that no other has; where both are one class, write the "
                "same number in the labels of both and take one of the names out"
            )
            problems.add(path, where, message, advice, text=text if where else "")


_FORMS = (
    "it is a text with a name on each line, YAML with `names`, or CSV with the columns name, r, g, "
    "b"
)


def _of_yaml(path: Path, text: str, problems: Problems) -> list[str]:
    try:
        # Values stay the texts that are written: a class may be called `no`, `off` or `1.0`.
        content: Any = yaml.load(text, Loader=yaml.BaseLoader)
    except RecursionError:
        problems.add(path, 0, "it is nested too deeply", _FORMS)
        problems.stop()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 0
        problems.add(path, line, f"it is not YAML: {getattr(error, 'problem', error)}", _FORMS)
        problems.stop()
    names = content.get("names") if isinstance(content, Mapping) else None
    if isinstance(names, Mapping) and all(_is_number(key) for key in names):
        names = {int(key): name for key, name in names.items()}
        _demand_count(path, content, len(names), text, problems)
        if set(names) == set(range(len(names))):
            return _texts(path, [names[key] for key in sorted(names)], problems)
        expected = f"0 to {len(names) - 1}"
        problems.add(
            path, 0, f"the numbers of `names` are not {expected}", f"count from {expected}"
        )
    elif isinstance(names, list) and len(names) <= _MAX_CLASSES:
        _demand_count(path, content, len(names), text, problems)
        return _texts(path, names, problems)
    else:
        problems.add(path, 0, "it has no list `names`", "write `names: [first, second, ...]`")
    return [""]


def _demand_count(
    path: Path, content: Mapping[str, Any], count: int, text: str, problems: Problems
) -> None:
    """Note a number of classes, YOLO's `nc`, that is not that of the names."""
    stated = content.get("nc")
    if not _is_number(stated) or int(str(stated)) == count:
        return
    line = next((i for i, t in enumerate(lines(text), start=1) if t.lstrip().startswith("nc")), 0)
    message = f"`nc` says {stated} classes, and `names` has {count}"
    problems.add(path, line, message, "correct the one that is wrong", text=text if line else "")


def _texts(path: Path, names: Sequence[Any], problems: Problems) -> list[str]:
    for number, name in enumerate(names):
        if not isinstance(name, str) or not name:
            problems.add(path, 0, f"class {number} has no name", "write a text for each class")
    return [name if isinstance(name, str) else "" for name in names]


def _is_number(key: Any) -> bool:
    return isinstance(key, str) and key.isdecimal() and len(key) < _DIGITS


def _of_csv(path: Path, text: str, problems: Problems) -> Names:
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), skipinitialspace=True))
    except csv.Error as error:
        problems.add(path, 0, f"it is not CSV: {error}", _FORMS)
        problems.stop()
    names, colours = [], []
    for line, row in enumerate(rows, start=1):
        levels = [entry.strip() for entry in row[1:4]]
        if not any(entry.strip() for entry in row) or (line == 1 and not _is_byte(levels[:1])):
            continue  # the first line names the columns
        if len(levels) < 3 or not _is_byte(levels):
            message = f"`{','.join(row)}` is not a class with a colour"
            problems.add(path, line, message, "write `name,r,g,b`, r, g and b from 0 to 255")
            continue
        names.append(row[0].strip())
        red, green, blue = map(int, levels)
        colours.append((red, green, blue))
    return Names(names, colours)


def _is_byte(texts: Sequence[str]) -> bool:
    return bool(texts) and all(_is_number(t) and int(t) < 256 for t in texts)
