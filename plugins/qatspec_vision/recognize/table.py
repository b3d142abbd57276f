"""A CSV file with a picture and its class on each line."""

from __future__ import annotations

import csv
import io
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import Tree, Unit, role_of, roles, split_of, tree

_LABELS = (
    "label", "class", "class_name", "category", "target", "name", "label_name", "class_index",
    "species", "breed", "diagnosis", "y",
)  # fmt: skip
_SPLITS = ("split", "set", "subset", "fold", "partition")
_MARKS = ("1", "1.0", "true")
_SUFFIXES = ("", ".jpg", ".png", ".jpeg", ".tif")


class Table(NamedTuple):
    """A table that names pictures. rows: lists of texts by column."""

    path: str
    columns: dict[str, list[str]]
    file: str
    images: str
    suffix: str


def recognize(folder: Path) -> FoundData | None:
    """CSV files, one for each split or one with a column of splits, whose pictures are there."""
    folder_tree = tree(folder)
    tables = [
        table
        for below, names in sorted(folder_tree.others.items())
        for name in names
        if name.lower().endswith((".csv", ".tsv"))
        and (table := _table(folder_tree, f"{below}/{name}".lstrip("/")))
    ]
    units, pictures = [], []
    for table in tables:
        label = _label(table)
        if not label:
            continue
        params: dict[str, Any] = {
            "table": table.path, "images": table.images, "file_column": table.file,
            **label, "suffix": table.suffix,
        }  # fmt: skip
        values = table.columns[table.file]
        step = max(1, len(values) // 100)
        pictures += [folder / table.images / f"{v}{table.suffix}" for v in values[::step]]
        split = next((c for c in table.columns if c.lower() in _SPLITS and
                      any(role_of(v) for v in table.columns[c])), None)  # fmt: skip
        if split is None:
            units.append(Unit(_split_of_name(table.path), params))
            continue
        units += [
            Unit(value, {**params, "split": value, "split_column": split})
            for value in dict.fromkeys(table.columns[split])
        ]
    if not units:
        return None
    chosen, notes = roles(units)
    classes = _classes(chosen["train"], tables, {str(p["table"]) for p in chosen.values()})
    if len(classes) < 2:
        return None
    for of_role in chosen.values():
        of_role["classes"] = classes
    return FoundData(
        what="a table of pictures and classes",
        task="classification",
        roles=chosen,
        pictures=[path for path in pictures if path.is_file()],
        notes=notes,
    )


def _table(folder_tree: Tree, path: str) -> Table | None:
    text = folder_tree.text(path, 1 << 28)
    head = text.partition("\n")[0]
    delimiter = max((",", ";", "\t"), key=head.count)
    try:
        rows = [[f.strip() for f in row] for row in csv.reader(io.StringIO(text, newline=""),
                                                               delimiter=delimiter)]  # fmt: skip
    except csv.Error:
        return None
    if len(rows) < 2 or len(set(rows[0])) != len(rows[0]):
        return None
    body = [row for row in rows[1:] if len(row) == len(rows[0]) and any(row)]
    columns = {name: [row[at] for row in body] for at, name in enumerate(rows[0])}
    here = path.rpartition("/")[0]
    for name, values in columns.items():
        for images in dict.fromkeys((here, "", *folder_tree.pictures)):
            for suffix in _SUFFIXES:
                shown = [str(PurePosixPath(images, f"{v}{suffix}")) for v in values[:20]]
                if sum(map(folder_tree.holds, shown)) > len(shown) / 2:  # others are told later
                    return Table(path, columns, name, images, suffix)
    return None


def _label(table: Table) -> dict[str, Any]:
    """The params for the column of classes, one of a usual name or else the one with the fewest
    values, or for the columns of the classes; {} where there are none."""
    others = [c for c in table.columns if c != table.file and c.lower() not in _SPLITS]
    for name in _LABELS:
        if column := next((c for c in others if c.lower() == name), None):
            return {"label_column": column}
    flags = [c for c in others if _is_flag(table.columns[c])]
    if len(flags) > 1:
        marks = zip(*(table.columns[c] for c in flags), strict=True)
        one_each = all(sum(m.lower() in _MARKS for m in line) == 1 for line in marks)
        return {"label_columns": flags} if one_each else {}
    count = len(table.columns[table.file])
    distinct = {c: len(set(table.columns[c])) for c in others}
    fit = [c for c in others if 2 <= distinct[c] <= max(2, count // 2)]
    column = min(fit, key=lambda c: distinct[c], default=None)
    return {} if column is None else {"label_column": column}


def _classes(params: dict[str, Any], tables: list[Table], chosen: set[str]) -> list[str]:
    """The classes of the chosen tables. params: of the training set."""
    if "label_columns" in params:
        return list(params["label_columns"])
    column = str(params["label_column"])
    labels = {value for table in tables if table.path in chosen for value in table.columns[column]}
    return sorted(labels, key=int) if all(x.isdecimal() for x in labels) else sorted(labels)


def _is_flag(values: list[str]) -> bool:
    return {value.lower() for value in values} <= {*_MARKS, "0", "0.0", "false"}


def _split_of_name(path: str) -> str:
    name = PurePosixPath(path).stem
    return name if role_of(name) else split_of(path) or next(
        (part for part in name.replace("-", "_").split("_") if role_of(part)), "")  # fmt: skip
