"""Where the files of a Cityscapes set lie, and its classes (cityscapes-dataset.com and the table
of github.com/mcordts/cityscapesScripts, helpers/labels.py). Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import content_digest, why_no_folder
from qatspec_vision.data.files import files, made_up_digest, missing, with_transforms

#: The 19 classes that are evaluated, in the order of their train ids.
CLASSES = (
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign",
    "vegetation", "terrain", "sky", "person", "rider", "car", "truck", "bus", "train",
    "motorcycle", "bicycle",
)  # fmt: skip
#: label id of each train id
LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
#: The train id that does not count.
IGNORED = 255

_PICTURE = "_leftImg8bit.png"
ADVICE = (
    "set `root` and `split` so that `<root>/leftImg8bit/<split>/<city>/..._leftImg8bit.png` and "
    "`<root>/gtFine/<split>/<city>/..._gtFine_labelIds.png` exist"
)


class Pair(NamedTuple):
    """A picture, its labels, and the name that both share."""

    name: str
    picture: Path
    labels: Path


def locate(params: Mapping[str, Any], base_dir: Path) -> list[Pair]:
    """The pairs of a split, by name. Raises DiagnosticError QS910 where a part is not there."""
    pictures, labels = _folders(params, base_dir)
    kind = params["labels"]
    pairs = [
        Pair(name, pictures / f"{name}{_PICTURE}", labels / f"{name}_gtFine_{kind}.png")
        for name in sorted(
            name.removesuffix(_PICTURE) for name in files(pictures) if name.endswith(_PICTURE)
        )
    ]
    if not pairs:
        raise missing(pictures, f"no picture `*{_PICTURE}` below it", ADVICE)
    present = set(files(labels))
    absent = [p for p in pairs if f"{p.name}_gtFine_{kind}.png" not in present]
    if absent:
        why = f"{len(absent)} of {len(pairs)} pictures have no labels"
        some_absent = "add the missing files, or remove these pictures"
        raise missing(absent[0].labels, why, ADVICE if len(absent) == len(pairs) else some_absent)
    return pairs


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str]:
    """The evaluated classes. Raises DiagnosticError QS910 where a folder is not there."""
    if "made_up" not in params:
        _folders(params, base_dir)
    return list(CLASSES)


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest pictures and labels under the names that both share."""
    if "made_up" in params:
        return made_up_digest(params)
    pairs = locate(params, base_dir)[: params.get("limit")]
    pictures = {f"picture/{pair.name}": pair.picture for pair in pairs}
    return content_digest({**pictures, **{f"labels/{pair.name}": pair.labels for pair in pairs}})


def _folders(params: Mapping[str, Any], base_dir: Path) -> tuple[Path, Path]:
    root = base_dir / Path(params["root"]).expanduser()
    folders = (root / "leftImg8bit" / params["split"], root / "gtFine" / params["split"])
    for folder in folders:
        if why := why_no_folder(folder):
            raise missing(folder, why, ADVICE)
    return folders
