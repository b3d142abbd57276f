"""A folder's files, and which of its parts are for training and which for validation."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qatspec_vision.data.files import PICTURES
from qatspec_vision.data.texts import decoded

#: Files of a folder that are looked at; a larger set is recognised by these.
_MAX_FILES = 2_000_000
#: Names of splits, without digits at their ends, the first choice first.
_TRAIN = ("train", "training", "trainval")
_VAL = ("val", "valid", "validation", "dev", "test", "testing")
#: Pictures whose sizes are looked at.
SHOWN = 200
#: Label files that are tried for what they are.
TRIED = 50


class Tree(NamedTuple):
    """Files below a folder, by the folder that they lie in, with forward slashes ("": the folder
    itself)."""

    root: Path
    pictures: Mapping[str, Sequence[str]]
    others: Mapping[str, Sequence[str]]

    def holds(self, path: str) -> bool:
        """Return whether a file, relative to the root, is a picture of the tree."""
        folder, _, name = path.rpartition("/")
        return name in self.pictures.get(folder, ())

    def has(self, path: str) -> bool:
        """Return whether a file, relative to the root, is one of the tree and no picture."""
        folder, _, name = path.lstrip("/").rpartition("/")
        return name in self.others.get(folder, ())

    def below(self, unit: str) -> list[str]:
        """The pictures below a folder, relative to it, sorted."""
        paths = []
        for folder, names in self.pictures.items():
            if folder == unit or folder.startswith(f"{unit}/") or not unit:
                inside = folder.removeprefix(unit).lstrip("/") if unit else folder
                paths += [f"{inside}/{name}".lstrip("/") for name in names]
        return sorted(paths)

    def text(self, path: str, limit: int = 1 << 20) -> str:
        """The beginning of a text file; "" where it cannot be read."""
        try:
            with (self.root / path.lstrip("/")).open("rb") as file:
                return decoded(file.read(limit))
        except OSError:
            return ""


def tree(root: Path) -> Tree:
    """The files below `root`, symbolic links followed. Hidden files and folders are left out."""
    pictures: dict[str, list[str]] = {}
    others: dict[str, list[str]] = {}
    count, visited = 0, set[str]()
    for parent, folders, names in os.walk(root, followlinks=True):
        real_path = os.path.realpath(parent)
        if real_path in visited:
            folders.clear()
            continue
        visited.add(real_path)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        below = os.path.relpath(parent, root).replace(os.sep, "/")
        below = "" if below == "." else below
        for name in sorted(names):
            if not name.startswith("."):
                kind = pictures if name.lower().endswith(PICTURES) else others
                kind.setdefault(below, []).append(name)
                count += 1
        if count > _MAX_FILES:
            break
    return Tree(root, pictures, others)


class Unit(NamedTuple):
    """A part of a set that can be opened by itself. split: its name, "" where it has none; params:
    those of its data set."""

    split: str
    params: dict[str, Any]


def split_of(path: str) -> str:
    """The part of a path that names a split, "" where none does."""
    return next((part for part in path.split("/") if role_of(part)), "")


def role_of(name: str) -> str | None:
    """The role, "train" or "val", that a split of this name is for."""
    plain = re.sub(r"[\d_-]+$", "", name.lower())
    return "train" if plain in _TRAIN else "val" if plain in _VAL else None


def picture_units(folder_tree: Tree) -> list[str]:
    """The folders that hold the pictures of one split each: the split's own folder, or the folder
    of pictures beside or below it."""
    units = set()
    for folder in folder_tree.pictures:
        parts = folder.split("/") if folder else []
        split = next((i for i, part in enumerate(parts) if role_of(part)), None)
        images = next((i for i, part in enumerate(parts) if part.lower() in IMAGES), None)
        ends = [i for i in (split, images) if i is not None]
        units.add("/".join(parts[: max(ends) + 1]) if ends else folder)
    return sorted(units)


#: Names of folders of pictures, in lower case.
IMAGES = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos", "frames")


def beside(folder_tree: Tree, unit: str, names: Iterable[str]) -> list[str]:
    """Folders that may hold what belongs to the pictures of `unit`, as the tree spells them: with
    its folder of pictures, or its last part, in another name; beside it; below it; and itself."""
    folders = {*folder_tree.pictures, *folder_tree.others}
    folders |= {str(parent) for f in folders for parent in PurePosixPath(f).parents} - {"."}
    spelt = {folder.lower(): folder for folder in sorted(folders)}
    candidates = (spelt.get(path.lower()) for path in _beside(unit, names))
    return list(dict.fromkeys(path for path in candidates if path is not None))


def _beside(unit: str, names: Iterable[str]) -> Iterator[str]:
    parts = unit.split("/") if unit else []
    for name in names:
        for position, part in enumerate(parts):
            if part.lower() in IMAGES:
                yield "/".join([*parts[:position], name, *parts[position + 1 :]])
        if parts:
            yield "/".join([*parts[:-1], name])
            yield "/".join([*parts[:-1], f"{parts[-1]}_{name}"])
            yield "/".join([*parts[:-1], f"{parts[-1]}{name}"])
            yield "/".join([*parts[:-1], name, parts[-1]])
        yield "/".join([*parts, name])
    yield unit


def roles(units: Sequence[Unit]) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The params of train and val, and notes about the choice. A set without a split for
    validation is parted by the names of its pictures."""
    by_role: dict[str, list[Unit]] = {"train": [], "val": []}
    for unit in units:
        if role := role_of(unit.split):
            by_role[role].append(unit)
    train, val = (
        min(candidates, key=lambda unit: _choice(unit.split), default=None)
        for candidates in by_role.values()
    )
    if train and val:
        rest = [u.split for u in units if u not in (train, val) and u.split]
        notes = [f"not used: {', '.join(f'`{name}`' for name in rest)}"] if rest else []
        return {"train": train.params, "val": val.params}, notes
    only = train or val or max(units, key=lambda unit: not unit.split)
    parts = {part: {**only.params, "part": part} for part in ("train", "val")}
    return parts, [
        "there is no split for validation: about a fifth of the pictures is taken for it"
    ]


def _choice(split: str) -> int:
    plain = re.sub(r"[\d_-]+$", "", split.lower())
    return (*_TRAIN, *_VAL).index(plain)


def lists(folder_tree: Tree, unit: str) -> list[str]:
    """Text files at the root or beside a folder of pictures that list pictures of it, by splits;
    none unless there is one for training and one for validation."""
    names = {PurePosixPath(name).name for name in folder_tree.below(unit)}
    paths = []
    for folder in dict.fromkeys(("", unit.rpartition("/")[0])):
        for name in folder_tree.others.get(folder, ()):
            if not name.endswith(".txt") or not role_of(stem(name)):
                continue
            path = f"{folder}/{name}".lstrip("/")
            text = folder_tree.text(path).replace("\\", "/")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            known = sum(PurePosixPath(line).name in names for line in lines)
            if known > len(lines) / 2:  # a fault in a list does not hide a split
                paths.append(path)
    by_role = {role_of(PurePosixPath(path).stem) for path in paths}
    return paths if by_role == {"train", "val"} else []


def some(folder_tree: Tree, units: Iterable[str]) -> list[Path]:
    """Some pictures of the units, spread over them."""
    paths: list[Path] = []
    for unit in dict.fromkeys(units):
        names = folder_tree.below(unit)
        step = max(1, len(names) // SHOWN)
        paths += [folder_tree.root / unit / name for name in names[::step]]
    return paths[:: max(1, len(paths) // SHOWN)][:SHOWN]


def stem(name: str) -> str:
    """A path without its suffix."""
    return str(PurePosixPath(name).with_suffix(""))
