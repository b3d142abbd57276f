"""Where the files of a classification set lie, and which class each is of. Standard library
only."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import Diagnostic, DiagnosticError, Span, content_digest
from qatspec_vision.data.files import made_up_digest, missing, pictures

ADVICE = (
    "set `root` and `split` so that `<root>/<split>/<class>/*.jpg` exist, or name a table of "
    "pictures and classes by `index`"
)


class Listing(NamedTuple):
    """Pictures with their labels, and class names in label order."""

    entries: list[tuple[Path, int]]
    classes: list[str]


def locate(params: Mapping[str, Any], base_dir: Path) -> Listing:
    """The pictures that params name.

    Raises DiagnosticError: QS910 where one is not there, QS912 for a table that is none."""
    root = base_dir / Path(params["root"]).expanduser()
    if "index" in params:
        return _from_index(root, root / params["index"])
    folder = root / params.get("split", "")
    if not folder.is_dir():
        raise missing(folder, "no such folder", ADVICE)
    names = [name for name in pictures(folder) if "/" in name]
    if not names:
        raise missing(folder, "no picture in a folder of its class below it", ADVICE)
    classes = sorted({name.split("/")[0] for name in names})
    label = {name: index for index, name in enumerate(classes)}
    return Listing([(folder / n, label[n.split("/")[0]]) for n in names], classes)


def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the classes, and the pictures in their order with their labels."""
    if "made_up" in params:
        return made_up_digest(params)
    found = locate(params, base_dir)
    entries = found.entries[: params.get("limit")]
    named = {
        f"{place:08d}/{label}/{path.name}": path for place, (path, label) in enumerate(entries)
    }
    return content_digest(named, found.classes)


def _from_index(root: Path, index: Path) -> Listing:
    if not index.is_file():
        raise missing(index, "no such file", ADVICE)
    try:
        with index.open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
        labels = [int(row["class_index"]) for row in rows]
        entries = [(root / row["file"], n) for row, n in zip(rows, labels, strict=True)]
    except (KeyError, TypeError, ValueError, OSError, csv.Error) as error:
        raise _malformed(index, f"{type(error).__name__}: {error}") from error
    if not entries or min(labels) < 0:
        raise _malformed(index, "a class index is below 0" if entries else "it has no row")
    absent = [path for path, _ in entries if not path.is_file()]
    if absent:
        why = f"{len(absent)} of {len(entries)} pictures are missing"
        raise missing(absent[0], why, ADVICE)
    names = {label: row.get("name") or str(label) for label, row in zip(labels, rows, strict=True)}
    return Listing(entries, [names.get(n, str(n)) for n in range(max(labels) + 1)])


def _malformed(path: Path, why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="QS912",
            message=f"`{path.name}` is not a table of pictures and classes: {why}",
            help="it is a CSV file with a first line `file,class_index` (and `name`, if any); "
            "`file` is relative to `root`, `class_index` counts from 0",
            span=Span(file=str(path)),
        )
    )
