"""YOLO: a text beside each picture, or in a folder of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import (
    TRIED,
    Tree,
    Unit,
    beside,
    lists,
    picture_units,
    roles,
    some,
    split_of,
    stem,
    tree,
)

#: Label files that say how many classes there are, where no file names them.
_READ = 100_000
_NAMES = ("classes.txt", "obj.names", "names.txt", "labels.txt", "_darknet.labels")


def recognize(folder: Path) -> FoundData | None:
    """Pictures with label files of YOLO's form, in any usual layout."""
    folder_tree = tree(folder)
    units, places = [], []
    for unit in picture_units(folder_tree):
        labels = next((p for p in beside(folder_tree, unit, ("labels",))
                       if _labelled(folder_tree, unit, p)), None)  # fmt: skip
        if labels is not None:
            split = split_of(unit)
            params: dict[str, Any] = {
                "split": split or "all",
                "images": unit or ".",
                "labels": labels or ".",
            }
            listed = [] if split else lists(folder_tree, unit)
            units += [
                Unit(name, {**params, "split": name, "list": path})
                for path in listed
                if (name := stem(path.rpartition("/")[2]))
            ] or [Unit(split, params)]
            places.append((unit, labels))
    if not units:
        return None
    chosen, notes = roles(units)
    classes = _classes(folder_tree, [labels for _, labels in places], notes)
    for params in chosen.values():
        params["classes"] = classes
    pictures = some(folder_tree, [unit for unit, _ in places])
    return FoundData(
        what="YOLO label files", task="detection", roles=chosen, pictures=pictures, notes=notes
    )


def _labelled(folder_tree: Tree, unit: str, labels: str) -> bool:
    """Return whether there are label files of the pictures, and one of the first holds a box; one
    with a fault does not hide a split. All may be empty in a folder of their own."""
    texts = [
        text
        for name in folder_tree.below(unit)
        if folder_tree.has(text := f"{labels}/{stem(name)}.txt")
    ]
    lines = [folder_tree.text(text, 1 << 12).split("\n")[0] for text in texts[:TRIED]]
    written = [line for line in lines if line.strip()]
    return any(map(_is_label, written)) or bool(texts and not written and labels != unit)


def _is_label(line: str) -> bool:
    try:
        numbers = [float(field) for field in line.split()]
    except ValueError:
        return False
    return len(numbers) >= 5 and numbers[0] == int(numbers[0]) >= 0


def _classes(folder_tree: Tree, labels: list[str], notes: list[str]) -> str | list[str]:
    """A file of names, or as many numbers as the labels have classes."""
    for name in folder_tree.others.get("", ()):
        if name.endswith((".yaml", ".yml")) and _has_names(folder_tree.text(name)):
            return name
    for path in ("", *dict.fromkeys(labels)):
        for name in folder_tree.others.get(path, ()):
            lower = name.lower()
            if (lower in _NAMES or lower.endswith(".names")) and folder_tree.text(
                f"{path}/{name}".lstrip("/")
            ).strip():
                return f"{path}/{name}".lstrip("/")
    notes.append("no file names the classes: they are called by their numbers")
    return [str(number) for number in range(1 + _largest(folder_tree, labels))]


def _has_names(text: str) -> bool:
    try:
        content: Any = yaml.safe_load(text)
    except yaml.YAMLError:  # a fault in the file of names is told when the set is opened
        return any(line.startswith("names:") for line in text.split("\n"))
    return isinstance(content, dict) and isinstance(content.get("names"), (list, dict))


def _largest(folder_tree: Tree, labels: list[str]) -> int:
    largest, read = 0, 0
    for path in dict.fromkeys(labels):
        for folder, names in folder_tree.others.items():
            if folder != path and not folder.startswith(f"{path}/"):
                continue
            for name in names[: _READ - read]:
                if name.endswith(".txt"):
                    read += 1
                    lines = folder_tree.text(f"{folder}/{name}".lstrip("/")).split("\n")
                    known = [int(float(line.split()[0])) for line in lines if _is_label(line)]
                    largest = max([largest, *known])
    return largest
