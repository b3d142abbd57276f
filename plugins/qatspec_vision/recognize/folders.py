"""One folder for each class, below a folder for each split or below the set's own."""

from __future__ import annotations

from pathlib import Path

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import IMAGES, Unit, role_of, roles, some, tree

_NO_CLASS = (
    *IMAGES,
    "masks",
    "mask",
    "labels",
    "label",
    "annotations",
    "gt",
    "leftimg8bit",
    "gtfine",
)


def recognize(folder: Path) -> FoundData | None:
    """Folders of pictures that are called by classes."""
    folder_tree = tree(folder)
    by_split: dict[str, set[str]] = {}
    for path in folder_tree.pictures:
        first, _, rest = path.partition("/")
        split, label = (first, rest.split("/")[0]) if role_of(first) else ("", first)
        if label and label.lower() not in _NO_CLASS and not role_of(label):
            by_split.setdefault(split, set()).add(label)
    if any(by_split):
        by_split.pop("", None)
    units = [
        Unit(split, {"split": split} if split else {})
        for split, labels in sorted(by_split.items())
        if len(labels) > 1
    ]
    if not units:
        return None
    chosen, notes = roles(units)
    splits = {str(params.get("split", "")) for params in chosen.values()}
    classes = sorted(set[str]().union(*(by_split[split] for split in splits)))
    chosen = {role: {**params, "classes": classes} for role, params in chosen.items()}
    notes += _empty(folder, splits, classes)
    pictures = some(folder_tree, [str(params.get("split", "")) for params in chosen.values()])
    return FoundData(
        what="a folder for each class",
        task="classification",
        roles=chosen,
        pictures=pictures,
        notes=notes,
    )


def _empty(folder: Path, splits: set[str], classes: list[str]) -> list[str]:
    """A note of folders beside those of the classes in which there is no picture."""
    beside = {path.name for split in splits for path in (folder / split).iterdir() if path.is_dir()}
    hidden = {name for name in beside if name.startswith((".", "__")) or role_of(name)}
    names = sorted(beside - hidden - set(classes))
    return [f"no picture in: {', '.join(f'`{name}`' for name in names)}"] if names else []
