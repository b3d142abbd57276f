"""Pascal VOC: an XML file for each picture."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import (
    IMAGES,
    TRIED,
    Tree,
    Unit,
    beside,
    picture_units,
    role_of,
    roles,
    some,
    split_of,
    stem,
    tree,
)

_FOLDERS = ("Annotations", "annotations", "labels", "xml", "xmls")
_NAME = re.compile(r"<object>.*?<name>\s*([^<]*?)\s*</name>", re.DOTALL)


def recognize(folder: Path) -> FoundData | None:
    """Pictures with XML files of VOC's form, listed in ImageSets or in folders."""
    folder_tree = tree(folder)
    units, places = list[Unit](), list[tuple[str, str]]()
    for unit in sorted(picture_units(folder_tree), key=lambda unit: not _is_of_pictures(unit)):
        xml = next((p for p in beside(folder_tree, unit, _FOLDERS)
                    if _annotated(folder_tree, unit, p)), None)  # fmt: skip
        if xml is None:
            continue
        if not _is_of_pictures(unit) and any(xml == taken for _, taken in places):
            continue  # masks, which have the names of the pictures
        places.append((unit, xml))
        base = {"images": unit or ".", "annotations": xml or "."}
        lists = _lists(folder_tree, unit)
        for listed in lists:
            split = PurePosixPath(listed).stem
            units.append(Unit(split, {"split": split, **base, "list": listed}))
        if not lists:
            split = split_of(unit)
            units.append(Unit(split, {"split": split or "all", **base, "list": None}))
    if not units:
        return None
    chosen, notes = roles(units)
    classes = _classes(folder_tree, [xml for _, xml in places])
    for params in chosen.values():
        params["classes"] = classes
    return FoundData(
        what="Pascal VOC annotations",
        task="detection",
        roles=chosen,
        pictures=some(folder_tree, [unit for unit, _ in places]),
        notes=notes,
    )


def _is_of_pictures(unit: str) -> bool:
    """Return whether the name of a folder says that it holds pictures, or those of a split."""
    return bool(split_of(unit)) or any(part.lower() in IMAGES for part in unit.split("/"))


def _annotated(folder_tree: Tree, unit: str, xml: str) -> bool:
    """Return whether there are XML files of the pictures, and one of the first is an annotation."""
    files = [
        file
        for name in folder_tree.below(unit)
        if folder_tree.has(file := f"{xml}/{stem(name)}.xml")
    ]
    return any("<annotation" in folder_tree.text(file, 1 << 12) for file in files[:TRIED])


def _lists(folder_tree: Tree, unit: str) -> list[str]:
    """Lists of splits that name a picture of the unit."""
    stems = {stem(name) for name in folder_tree.below(unit)}
    lists = []
    for folder, names in folder_tree.others.items():
        if "imagesets" not in folder.lower():
            continue
        for name in names:
            path = f"{folder}/{name}"
            if not name.endswith(".txt") or not role_of(Path(name).stem):
                continue
            listed = [line.split() for line in folder_tree.text(path, 1 << 16).split("\n")]
            if any(words and words[0] in stems for words in listed):
                lists.append(path)
    main = [path for path in lists if "/Main/" in f"/{path}"]
    return main or lists


def _classes(folder_tree: Tree, places: list[str]) -> list[str]:
    names: set[str] = set()
    for folder, files in folder_tree.others.items():
        if any(folder == path or folder.startswith(f"{path}/") or not path for path in places):
            for name in files:
                if name.endswith(".xml"):
                    names.update(_NAME.findall(folder_tree.text(f"{folder}/{name}".lstrip("/"))))
    return sorted(names - {""})
