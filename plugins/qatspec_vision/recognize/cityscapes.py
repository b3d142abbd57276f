"""Cityscapes: leftImg8bit and gtFine."""

from __future__ import annotations

from pathlib import Path

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import Unit, roles, some, tree


def recognize(folder: Path) -> FoundData | None:
    """Pictures in leftImg8bit/<split>/<city>/, labels in gtFine."""
    found = tree(folder)
    splits = sorted(
        {place.split("/")[1] for place in found.pictures if place.startswith("leftImg8bit/")}
    )
    labels = {place.split("/")[1] for place in found.pictures if place.startswith("gtFine/")}
    units = [Unit(split, {"split": split}) for split in splits if split in labels]
    if not units:
        return None
    chosen, notes = roles(units)
    if "part" in chosen["train"]:
        return None
    pictures = some(found, [f"leftImg8bit/{split}" for split in splits])
    return FoundData(
        what="Cityscapes", task="segmentation", roles=chosen, pictures=pictures, notes=notes
    )
