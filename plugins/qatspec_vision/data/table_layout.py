"""Which pictures a table names, and which class each is of. Standard library and PyYAML only."""

from __future__ import annotations

import csv
import io
import os.path
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import content_digest, why_unreadable
from qatspec_vision.data import names
from qatspec_vision.data.files import chosen_part, missing, why_unreadable_file, with_transforms
from qatspec_vision.data.imagefolder_layout import Listing
from qatspec_vision.data.problems import Problems
from qatspec_vision.data.texts import read_text, restoring

ADVICE = "set `root` and `table` so that the file `<root>/<table>` exists"
#: An index of ImageNet-21k has 0.5 GB.
_MAX_BYTES = 4 << 30
_DELIMITERS = (",", ";", "\t")


class Row(NamedTuple):
    """A line of the table. picture: its path."""

    line: int
    picture: Path
    label: str
    split: str


def locate(params: Mapping[str, Any], base_dir: Path) -> Listing:
    """The pictures of a split with their labels.

    Without `classes`, the classes are `label_columns`, or the labels of the whole table, so that
    the splits of a set agree: in the order of numbers where all are whole numbers, else by name.
    Raises DiagnosticError: QS910, QS958 with the places of faults."""
    root, path = _table(params, base_dir)
    text, rows, problems = _rows(params, root, path)
    listed = _given_classes(params, base_dir)
    classes = listed or params.get("label_columns") or _sorted({row.label for row in rows})
    label_of = {name: label for label, name in enumerate(classes)}
    wanted = params.get("split")
    chosen = [row for row in rows if wanted is None or row.split == wanted]
    if not chosen and rows:
        splits = ", ".join(f"`{s}`" for s in sorted({row.split for row in rows})[:8])
        why = f"no line has the split `{wanted}`, only {splits}"
        problems.add(path, 0, why, "set `split` to one of them")
    first: dict[Path, Row] = {}
    for row in chosen:
        other = first.setdefault(row.picture, row)
        if other.label != row.label:
            name, label = row.picture.name, other.label
            why = f"`{name}` is `{row.label}` here and `{label}` in line {other.line}"
            problems.add(path, row.line, why, "give a picture one class", text=text)
        if row.label not in label_of:
            help_ = "correct the label, or add it to `classes`"
            why = f"`{row.label}` is none of the classes"
            problems.add(path, row.line, why, help_, text=text)
        if not os.path.isfile(row.picture):  # noqa: PTH113  no OSError for odd names
            why = f"there is no picture `{row.picture}`"
            help_ = "remove the line, or set `images` to the folder that names are relative to"
            help_ = restoring(str(row.picture), _beside(row.picture), help_)
            problems.add(path, row.line, why, help_, text=text)
    problems.stop()
    chosen = _part(chosen, root, params)
    return Listing([(row.picture, label_of[row.label]) for row in chosen], classes)


def _beside(picture: Path) -> list[str]:
    """The files of the folder where a picture should be."""
    try:
        return [str(path) for path in picture.parent.iterdir()]
    except (OSError, ValueError):  # no folder, or a name that no file can have
        return []


def _part(rows: list[Row], root: Path, params: Mapping[str, Any]) -> list[Row]:
    """The rows whose pictures `part` chooses, of each class by itself."""
    names = {row.picture: os.path.relpath(row.picture, root) for row in rows}
    of_class: dict[str, list[str]] = {}
    for row in rows:
        of_class.setdefault(row.label, []).append(names[row.picture])
    kept = chosen_part(names.values(), params, groups=of_class.values())
    return [row for row in rows if names[row.picture] in kept]


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str] | None:
    """The classes that the spec names; None where they are the table's own.
    Raises DiagnosticError QS910, QS958."""
    _table(params, base_dir)
    return _given_classes(params, base_dir)


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the classes, and the pictures in their order with their labels."""
    layout = locate(params, base_dir)
    entries = layout.entries[: params.get("limit")]
    named = {f"{at:08d}/{label}/{path.name}": path for at, (path, label) in enumerate(entries)}
    return content_digest(named, layout.classes)


def _table(params: Mapping[str, Any], base_dir: Path) -> tuple[Path, Path]:
    root = base_dir / Path(params["root"]).expanduser()
    path = root / params["table"]
    if why := why_unreadable_file(path):
        raise missing(path, why, ADVICE)
    return root, path


def _rows(params: Mapping[str, Any], root: Path, path: Path) -> tuple[str, list[Row], Problems]:
    try:
        text = read_text(path, _MAX_BYTES)
    except OSError as error:
        raise missing(path, why_unreadable(error), ADVICE) from error
    problems, rows = Problems(), []
    labels = params.get("label_columns")
    columns = {
        "file_column": params["file_column"],
        **({"split_column": params["split_column"]} if "split" in params else {}),
    }
    label_columns = labels or [params["label_column"]]
    folder, suffix = root / params["images"], params["suffix"]
    lines = _parsed(path, text, problems)
    _, head = next(lines, (1, []))
    if absent := [column for column in (*columns.values(), *label_columns) if column not in head]:
        shown = ", ".join(f"`{c}`" for c in head[:12])
        why = f"the first line names the columns {shown or 'nothing'}, and not `{absent[0]}`"
        of_labels = "label_columns" if labels else "label_column"
        key = next((k for k, column in columns.items() if column == absent[0]), of_labels)
        problems.add(path, 1, why, f"set `{key}` to one of them", text=text)
        problems.stop()
    places = {key: head.index(column) for key, column in columns.items()}
    label_places = [head.index(column) for column in label_columns]
    for line, fields in lines:
        if not any(fields):
            continue
        if len(fields) <= max(*places.values(), *label_places):
            why = f"the line has {len(fields)} columns, the first line {len(head)}"
            problems.add(path, line, why, "complete the line", text=text)
            continue
        file, label = fields[places["file_column"]], fields[label_places[0]]
        if labels:
            marked = [
                c for c, at in zip(labels, label_places, strict=True) if _is_marked(fields[at])
            ]
            label = marked[0] if marked else ""
            if len(marked) > 1:
                why = f"the line marks several classes: {', '.join(f'`{c}`' for c in marked[:4])}"
                problems.add(path, line, why, "mark the one class of the picture", text=text)
                continue
        if not file or not label:
            why = "the line has no file" if not file else "the line has no label"
            problems.add(path, line, why, "complete the line, or remove it", text=text)
            continue
        split = fields[places["split_column"]] if "split_column" in places else ""
        rows.append(Row(line, folder / f"{file}{suffix}", label, split))
    if not rows:
        problems.add(path, 0, "the table has no row", "write a line for each picture")
    return text, rows, problems


def _is_marked(field: str) -> bool:
    return field.lower() in ("1", "1.0", "true")


def _parsed(path: Path, text: str, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """(line, fields) of each row; the delimiter is what the first line has most of."""
    head = text.partition("\n")[0]
    delimiter = max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for fields in reader:
            yield reader.line_num, [field.strip() for field in fields]
    except csv.Error as error:
        problems.add(path, reader.line_num, f"it is not CSV: {error}", "correct the line")


def _sorted(labels: set[str]) -> list[str]:
    are_integers = all(label.lstrip("-").isdecimal() for label in labels)
    return sorted(labels, key=int) if are_integers else sorted(labels)


def _given_classes(params: Mapping[str, Any], base_dir: Path) -> list[str] | None:
    classes = params.get("classes")
    root = base_dir / Path(params["root"]).expanduser()
    return None if classes is None else names.class_names(classes, root).classes
