"""Where the files of a set of pictures and masks lie. Standard library and PyYAML only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from qatspec.api import content_digest, why_no_folder
from qatspec_vision.data import names
from qatspec_vision.data.cityscapes_layout import Pair
from qatspec_vision.data.files import chosen_part, files, missing, pictures, with_transforms
from qatspec_vision.data.names import Names
from qatspec_vision.data.problems import Problems
from qatspec_vision.data.texts import restoring

ADVICE = (
    "set `root` and `split` so that `<root>/images/<split>/` and `<root>/masks/<split>/` hold "
    "files of the same names, or name both by `images` and `masks`"
)


def locate(params: Mapping[str, Any], base_dir: Path) -> list[Pair]:
    """The pairs of a split, by name. Raises DiagnosticError QS910 where a part is not there."""
    images, masks = _folders(params, base_dir)
    form = params["mask_name"]
    named = pictures(images)
    if images == masks:  # side by side: what is the mask of another picture is no picture
        made = {_mask_name(name, form) for name in named}
        named = [name for name in named if name not in made]
    part = chosen_part(named, params)
    named = [name for name in named if name in part]
    if not named:
        raise missing(images, "no picture in it", ADVICE)
    present = set(files(masks))
    pairs = [Pair(name, images / name, masks / _mask_name(name, form)) for name in named]
    absent = [pair for pair in pairs if _mask_name(pair.name, form) not in present]
    if absent:
        why = f"{len(absent)} of {len(pairs)} pictures have no mask"
        if len(absent) == len(pairs):
            advice = f"{ADVICE}; `mask_name` says how masks are called"
        else:
            wanted = _mask_name(absent[0].name, form)
            advice = restoring(wanted, present, "add the masks, or remove these pictures")
        raise missing(absent[0].labels, why, advice)
    return pairs


def classes_of(params: Mapping[str, Any], base_dir: Path) -> Names:
    """The classes of a set, and their colours where masks are coloured.

    Raises DiagnosticError: QS910, QS958 where names or colours are missing or occur twice."""
    root = base_dir / Path(params["root"]).expanduser()
    classes, colours = params["classes"], params.get("colours")
    named = names.class_names(classes, root)
    if colours is not None:
        named = Names(named.classes, [(c[0], c[1], c[2]) for c in colours])
    problems = Problems()
    file = root / classes if isinstance(classes, str) else root
    count = len(named.classes)
    if named.colours is not None and len(named.colours) != count:
        why = f"there are {len(named.colours)} `colours` for {count} classes"
        problems.add(file, 0, why, "give one [red, green, blue] for each class")
    elif named.colours is not None and len(set(named.colours)) != count:
        problems.add(file, 0, "two classes have the same colour", "give each its own")
    if count > 255:
        why = f"there are {count} classes, and masks of up to 255 are read"
        problems.add(file, 0, why, "join classes")
    problems.stop()
    return named


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str]:
    """The classes in label order. Raises DiagnosticError: QS910, QS958."""
    _folders(params, base_dir)
    return classes_of(params, base_dir).classes


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest classes, colours, pictures and masks, under the pictures' names."""
    pairs = locate(params, base_dir)[: params.get("limit")]
    named = classes_of(params, base_dir)
    shown = {f"picture/{pair.name}": pair.picture for pair in pairs}
    masks = {f"labels/{pair.name}": pair.labels for pair in pairs}
    return content_digest({**shown, **masks}, [named.classes, named.colours])


def _mask_name(name: str, form: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_name(form.replace("{stem}", path.stem).replace("{name}", path.name)))


def _folders(params: Mapping[str, Any], base_dir: Path) -> tuple[Path, Path]:
    root, split = base_dir / Path(params["root"]).expanduser(), params["split"]
    images, masks = (
        root / params.get(key, f"{key}/{{split}}").replace("{split}", split)
        for key in ("images", "masks")
    )
    for folder in (images, masks):
        if why := why_no_folder(folder):
            raise missing(folder, why, ADVICE)
    return images, masks
