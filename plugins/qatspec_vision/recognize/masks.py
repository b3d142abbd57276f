"""Masks: for each picture a second one, with the number or the colour of each pixel's class."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qatspec.api import DiagnosticError, FoundData, open_labels, open_picture
from qatspec_vision.recognize.tree import (
    Tree,
    Unit,
    beside,
    picture_units,
    roles,
    some,
    split_of,
    stem,
    tree,
)

_FOLDERS = (
    "masks", "mask", "labels", "label", "annotations", "annotation", "annot", "SegmentationClass",
    "gt", "targets", "segmentation",
)  # fmt: skip
_FORMS = ("{stem}", "{stem}_mask", "{stem}_label", "{stem}_labels", "{stem}_L", "{stem}_gt",
          "{stem}_seg")  # fmt: skip
_ENDS = (".png", ".bmp", ".tif", ".tiff", ".gif")
_NAMES = ("classes.txt", "class_dict.csv", "classes.csv", "labels.txt", "names.txt", "codes.txt")
_LABELMAP = "labelmap.txt"
#: Masks that are looked at for the classes that occur, and colours of one set.
_READ, _COLOURS = 300, 255
_IGNORED = 255


def recognize(folder: Path) -> FoundData | None:
    """Pictures with masks of their names, in folders beside or below each other."""
    folder_tree = tree(folder)
    units, places = [], []
    for unit in picture_units(folder_tree):
        pair = next((pair for p in beside(folder_tree, unit, _FOLDERS)
                     if (pair := _masks(folder_tree, unit, p))), None)  # fmt: skip
        if pair is None:
            continue
        masks, form = pair
        split = split_of(unit)
        params = {"split": split or "all", "images": unit or ".", "masks": masks or ".",
                  "mask_name": form}  # fmt: skip
        units.append(Unit(split, params))
        places.append((unit, masks, form))
    # a folder of masks is none of pictures
    used = {masks for unit, masks, _ in places if masks != unit}
    units = [
        unit
        for unit, (unit_masks, _, _) in zip(units, places, strict=True)
        if unit_masks not in used
    ]
    places = [unit_masks for unit_masks in places if unit_masks[0] not in used]
    if not units:
        return None
    chosen, notes = roles(units)
    classes = _classes(folder_tree, list(_some_masks(folder_tree, places)), notes)
    if classes is None:
        return None
    for params in chosen.values():
        params.update(classes)
    return FoundData(
        what="pictures with masks",
        task="segmentation",
        roles=chosen,
        pictures=some(folder_tree, [unit for unit, _, _ in places]),
        notes=notes,
    )


def _masks(folder_tree: Tree, unit: str, masks: str) -> tuple[str, str] | None:
    """The folder and form of names, where most of the pictures have a mask there."""
    names = [name for name in folder_tree.below(unit) if not _is_mask(name)]
    if not names:
        return None
    for form in _FORMS if masks != unit else _FORMS[1:]:
        for end in _ENDS:
            there = sum(
                folder_tree.holds(_mask_of(name, masks, form + end)) for name in names[:100]
            )
            if there > len(names[:100]) / 2:
                return masks, form + end
    return None


def _is_mask(name: str) -> bool:
    return any(stem(name).endswith(form.removeprefix("{stem}")) for form in _FORMS[1:])


def _mask_of(name: str, masks: str, form: str) -> str:
    path = PurePosixPath(name)
    return f"{masks}/{path.with_name(form.replace('{stem}', path.stem))}".lstrip("/")


def _some_masks(folder_tree: Tree, places: Iterable[tuple[str, str, str]]) -> Iterable[Path]:
    for unit, masks, form in places:
        names = [n for n in folder_tree.below(unit) if folder_tree.holds(_mask_of(n, masks, form))]
        step = max(1, len(names) // _READ)
        for name in names[::step]:
            yield folder_tree.root / _mask_of(name, masks, form)


def _classes(folder_tree: Tree, masks: list[Path], notes: list[str]) -> dict[str, Any] | None:
    """`classes`, and `colours` where masks are coloured; None where they are no masks."""
    files = [name for name in _NAMES if name in folder_tree.others.get("", ())]
    tables = [name for name in files if name.endswith(".csv")]
    numbers, colours = _values(masks)
    if colours is not None and tables:
        return {"classes": tables[0]}
    if colours is not None and (named := _labelmap(folder_tree)):
        return {"classes": list(named), "colours": list(named.values())}
    if colours is not None:
        if not 2 <= len(colours) <= _COLOURS:
            return None
        notes.append("no file names the classes: they are called by their colours")
        ordered = sorted(colours)
        names = ["_".join(map(str, colour)) for colour in ordered]
        return {"classes": names, "colours": [list(colour) for colour in ordered]}
    known = sorted(numbers - {_IGNORED})
    texts = [name for name in files if name.endswith(".txt")]
    listed = sum(map(bool, map(str.strip, folder_tree.text(texts[0]).splitlines()))) if texts else 0
    are_numbers = sum(number < listed for number in known) > len(known) / 2
    are_levels = known and known[-1] > 2 * len(known) + 8 and not are_numbers
    if numbers and (numbers == {0, _IGNORED} or are_levels):
        ordered_levels = sorted(numbers)
        notes.append("masks hold levels of grey that are not class numbers: each is a class")
        names = ["background", "foreground"] if len(numbers) == 2 else (
            [f"level_{level}" for level in ordered_levels])  # fmt: skip
        return {"classes": names, "colours": [[level] * 3 for level in ordered_levels]}
    if not known:
        return None
    if texts:
        if strange := [number for number in known if number >= listed]:
            numbers_said = ", ".join(map(str, strange[:8]))
            notes.append(
                f"masks hold numbers of no class in `{texts[0]}`: {numbers_said}; write them into "
                "the param `ignore`, or name their classes"
            )
        return {"classes": texts[0]}
    notes.append("no file names the classes: they are called by their numbers")
    return {"classes": [f"class_{number}" for number in range(known[-1] + 1)]}


def _labelmap(folder_tree: Tree) -> dict[str, list[int]]:
    """The colours of the classes, as CVAT writes them: `name:red,green,blue:parts:actions`."""
    named: dict[str, list[int]] = {}
    for line in folder_tree.text(_LABELMAP).splitlines():
        name, _, rest = line.partition(":")
        numbers = rest.partition(":")[0].split(",")
        if len(numbers) == 3 and all(n.strip().isdecimal() for n in numbers):
            named[name.strip()] = [int(n) for n in numbers]
    return named


def _values(masks: list[Path]) -> tuple[set[int], set[tuple[int, ...]] | None]:
    """Numbers that the masks hold, or the colours where they are coloured."""
    numbers: set[int] = set()
    colours: set[tuple[int, ...]] = set()
    for path in masks:
        try:
            numbers.update(np.unique(open_labels(path)).tolist())
            continue
        except DiagnosticError:
            pass
        try:
            pixels = np.asarray(open_picture(path)).reshape(-1, 3)
        except DiagnosticError:
            continue
        colours.update(map(tuple, np.unique(pixels, axis=0).tolist()))
        if len(colours) > _COLOURS:
            break
    if not colours:
        return numbers, None
    return set(), colours | {(n, n, n) for n in numbers}
