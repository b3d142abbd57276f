"""Cityscapes: leftImg8bit and gtFine."""

from __future__ import annotations

from pathlib import Path

from qatspec.api import FoundData
from qatspec_vision.recognize.tree import Unit, roles, some, tree


def recognize(folder: Path) -> FoundData | None:
    """Pictures in leftImg8bit/<split>/<city>/, labels in gtFine."""
    folder_tree = tree(folder)
    splits = sorted(
        {path.split("/")[1] for path in folder_tree.pictures if path.startswith("leftImg8bit/")}
    )
    labels = {path.split("/")[1] for path in folder_tree.pictures if path.startswith("gtFine/")}
    units = [Unit(split, {"split": split}) for split in splits if split in labels]
    if not units:
        return None
    chosen, notes = roles(units)
    if "part" in chosen["train"]:
        return None
    pictures = some(folder_tree, [f"leftImg8bit/{split}" for split in splits])
    return FoundData(
        what="Cityscapes", task="segmentation", roles=chosen, pictures=pictures, notes=notes
    )
