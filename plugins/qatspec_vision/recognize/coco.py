"""COCO: JSON files of annotations."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

from qatspec.api import FoundData
from qatspec_vision.data.texts import tails
from qatspec_vision.recognize.tree import (
    Tree,
    Unit,
    picture_units,
    role_of,
    roles,
    some,
    split_of,
    tree,
)

_MAX_BYTES = 1 << 30


def recognize(folder: Path) -> FoundData | None:
    """Annotation files in COCO's form whose pictures are there."""
    folder_tree = tree(folder)
    units: list[Unit] = []
    unread: list[str] = []
    for below, names in sorted(folder_tree.others.items()):
        for name in names:
            path = f"{below}/{name}".lstrip("/")
            images = _images(folder_tree, path) if name.endswith(".json") else None
            if images is None:
                if name.endswith(".json"):
                    unread.append(path)
                continue
            split = _split(path)
            params = {"split": split or "all", "annotations": path, "images": images or "."}
            if split and any(unit.split == split for unit in units):
                continue  # of one split, the first by name: instances before person_keypoints
            units.append(Unit(split, params))
    if not units:
        return None
    unread = _with_splits(folder_tree, units, unread)
    chosen, notes = roles(units)
    if unread:
        names = ", ".join(f"`{path}`" for path in unread)
        notes.append(f"omitted: {names}, not a COCO file with its pictures")
    return FoundData(
        what="COCO annotations",
        task="detection",
        roles=chosen,
        pictures=some(folder_tree, [str(p["images"]).strip(".") for p in chosen.values()]),
        notes=notes,
    )


def _with_splits(folder_tree: Tree, units: list[Unit], unread: list[str]) -> list[str]:
    """Add the files that cannot be used to the units, where their names differ from that of a unit
    by the split alone: opening them tells what is wrong. Return the others that hold boxes."""
    left = []
    for path in unread:
        split = _split(path)
        others = [unit for unit in units if split and unit.split not in ("", split)]
        named_alike = (
            unit for unit in others if unit.params["annotations"] == path.replace(split, unit.split)
        )
        like = next(named_alike, None)
        is_there = any(unit.split == split for unit in units)
        if like is None or is_there or _is_without_objects(folder_tree.root / path):
            left += [path] if '"bbox"' in folder_tree.text(path) else []
            continue
        images = str(like.params["images"]).replace(like.split, split)
        units.append(Unit(split, {"split": split, "annotations": path, "images": images}))
    return left


def _is_without_objects(path: Path) -> bool:
    """Return whether a file is intact and annotates nothing, as those of test sets."""
    try:
        content: Any = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(content, dict) and not content.get("annotations")


def _split(path: str) -> str:
    words = re.split(r"[^A-Za-z0-9]+", PurePosixPath(path).stem)
    return next((word for word in words if role_of(word)), "") or split_of(path)


def _images(folder_tree: Tree, path: str) -> str | None:
    """The folder that file names start from; None for a file that is not COCO's."""
    start = folder_tree.text(path, 1 << 16)
    if not start.lstrip().startswith("{") or '"' not in start:
        return None
    if (folder_tree.root / path).stat().st_size > _MAX_BYTES:
        return None
    try:
        content: Any = json.loads((folder_tree.root / path).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict) or not all(
        isinstance(content.get(key), list) and content[key]
        for key in ("images", "annotations", "categories")
    ):
        return None
    first, entry = content["images"][0], content["annotations"][0]
    if not isinstance(first, dict) or not isinstance(entry, dict) or "bbox" not in entry:
        return None
    name, split = str(first.get("file_name", "")), _split(path)
    here = path.rpartition("/")[0]
    places = (
        here,
        split,
        f"images/{split}",
        "images",
        "",
        *picture_units(folder_tree),
        *folder_tree.pictures,
    )
    named = list(tails(name))
    return next(
        (p for p in places for n in named if folder_tree.holds(f"{p}/{n}".lstrip("/"))), None
    )
