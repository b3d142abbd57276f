"""Where the files of a classification set lie, and which class each is of. Standard library
only."""

from __future__ import annotations

import csv
import io
import os.path
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import (
    DiagnosticError,
    Span,
    codes,
    content_digest,
    read_file,
    why_no_folder,
    why_unreadable,
)
from qatspec_vision.data.files import (
    chosen_part,
    holds_pictures,
    made_up_digest,
    missing,
    pictures,
    why_unreadable_file,
    with_transforms,
)
from qatspec_vision.data.names import class_names as class_list
from qatspec_vision.data.problems import Problems

ADVICE = (
    "set `root` and `split` so that `<root>/<split>/<class>/*.jpg` exist, or name a table of "
    "pictures and classes by `index`"
)


#: An index of ImageNet-21k has 0.5 GB.
_MAX_BYTES = 4 << 30
_MAX_CLASSES = 1_000_000


class Listing(NamedTuple):
    """Pictures with their labels, and class names in label order."""

    entries: list[tuple[Path, int]]
    classes: list[str]


def locate(params: Mapping[str, Any], base_dir: Path) -> Listing:
    """The pictures that params name.

    Raises DiagnosticError: QS910 where one is not there, QS912 for a table that is none, QS958 for
    a folder that is none of the classes."""
    root = base_dir / Path(params["root"]).expanduser()
    if "index" in params:
        return _from_index(root, root / params["index"])
    folder = root / params.get("split", "")
    if why := why_no_folder(folder):
        raise missing(folder, why, ADVICE)
    names = [name for name in pictures(folder) if "/" in name]
    if not names:
        raise missing(folder, "no picture in a folder of its class below it", ADVICE)
    classes = _given(params, root) or sorted({name.split("/")[0] for name in names})
    if unknown := sorted({name.split("/")[0] for name in names} - set(classes)):
        problems = Problems()
        help_ = "add it to `classes`, or move the folder away"
        problems.add(folder / unknown[0], 0, f"`{unknown[0]}` is none of the classes", help_)
        problems.stop()
    label = {name: index for index, name in enumerate(classes)}
    if "part" in params:
        of_class = ([n for n in names if n.split("/")[0] == name] for name in classes)
        part = chosen_part(names, params, groups=of_class)
        names = [name for name in names if name in part]
    return Listing([(folder / n, label[n.split("/")[0]]) for n in names], classes)


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str] | None:
    """The classes that the spec names, else the folders below the split that hold pictures; None
    for a table of pictures, which has a line for each. Raises DiagnosticError QS910."""
    if "made_up" in params:
        return None
    root = base_dir / Path(params["root"]).expanduser()
    if "index" in params:
        if why := why_unreadable_file(root / params["index"]):
            raise missing(root / params["index"], why, ADVICE)
        return None
    folder = root / params.get("split", "")
    if why := why_no_folder(folder):
        raise missing(folder, why, ADVICE)
    there = sorted(f.name for f in folder.iterdir() if f.is_dir() and holds_pictures(f))
    return _given(params, root) or there


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the classes, and the pictures in their order with their labels."""
    if "made_up" in params:
        return made_up_digest(params)
    layout = locate(params, base_dir)
    entries = layout.entries[: params.get("limit")]
    named = {
        f"{index:08d}/{label}/{path.name}": path for index, (path, label) in enumerate(entries)
    }
    return content_digest(named, layout.classes)


def _given(params: Mapping[str, Any], root: Path) -> list[str] | None:
    classes = params.get("classes")
    return None if classes is None else class_list(classes, root).classes


def _from_index(root: Path, index: Path) -> Listing:
    try:
        text = read_file(index, _MAX_BYTES)
    except OSError as error:
        raise missing(index, why_unreadable(error), ADVICE) from error
    try:
        rows = list(csv.DictReader(io.StringIO(text.decode("utf-8-sig"), newline="")))
        labels = [int(row["class_index"]) for row in rows]
        entries = [(root / row["file"], n) for row, n in zip(rows, labels, strict=True)]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise _malformed(index, f"{type(error).__name__}: {error}") from error
    if not entries:
        raise _malformed(index, "it has no row")
    for number, label in enumerate(labels, start=2):
        if not 0 <= label < _MAX_CLASSES:
            why = f"line {number}: class_index {label} is not from 0 to {_MAX_CLASSES - 1}"
            raise _malformed(index, why)
    absent = [path for path, _ in entries if not os.path.isfile(path)]  # noqa: PTH113  no OSError
    if absent:
        why = f"{len(absent)} of {len(entries)} pictures are missing"
        raise missing(absent[0], why, ADVICE)
    names = {label: row.get("name") or str(label) for label, row in zip(labels, rows, strict=True)}
    return Listing(entries, [names.get(n, str(n)) for n in range(max(labels) + 1)])


def _malformed(path: Path, why: str) -> DiagnosticError:
    return codes.QS912.error(
        f"`{path.name}` is not a table of pictures and classes: {why}",
        help="it is a CSV file with a first line `file,class_index` (and `name`, if any); "
        "`file` is relative to `root`, `class_index` counts from 0",
        span=Span(file=str(path)),
    )
