"""Where the files of a COCO set lie, and what they say. Standard library only: a plan's digest
needs the fingerprint, and planning loads neither torch nor numpy."""

from __future__ import annotations

import json
import os.path
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import content_digest, read_file, why_no_folder
from qatspec_vision.data.annotations import MAX_BYTES, read
from qatspec_vision.data.files import (
    chosen_part,
    files,
    made_up_digest,
    missing,
    why_unreadable_file,
    with_transforms,
)
from qatspec_vision.data.texts import restoring, tails

ADVICE = (
    "set `root` and `split` so that `<root>/annotations/instances_<split>.json` and "
    "`<root>/<split>/` exist, or name both by `annotations` and `images`"
)

#: A path of Windows, from the root, or from the folder where the file was written.
_OF_ANOTHER_MACHINE = re.compile(r"\\|^\.{0,2}/|^[A-Za-z]:")
_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


#: Bytes that a list of categories may take: 100,000 of them.
_CATEGORIES = 10 << 20


class Layout(NamedTuple):
    """A set on disk: the annotation file and the folder that its file names start from."""

    annotations: Path
    images: Path


def locate(params: Mapping[str, Any], base_dir: Path) -> Layout:
    """The files that params name. Raises DiagnosticError QS910 where one is not there."""
    root = base_dir / Path(params["root"]).expanduser()
    split = params["split"]
    layout = Layout(
        root / _with_split(params["annotations"], split),
        root / _with_split(params["images"], split),
    )
    if why := why_unreadable_file(layout.annotations):
        raise missing(layout.annotations, why, ADVICE)
    if why := why_no_folder(layout.images):
        raise missing(layout.images, why, ADVICE)
    return layout


def _with_split(name: str, split: str) -> str:
    """A name with `{split}` filled in; no other brace means anything."""
    return name.replace("{split}", split)


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the annotation file and the pictures that it names, never paths."""
    if "made_up" in params:
        return made_up_digest(params)
    layout = locate(params, base_dir)
    names = chosen_part(_named_pictures(layout), params)
    named = {f"images/{name}": layout.images / name for name in names}
    return content_digest({"annotations": layout.annotations, **named})


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str] | None:
    """The categories in label order, from the annotation file's list of them alone (the whole file
    may have hundreds of megabytes); None where that is not found. Raises DiagnosticError QS910."""
    if "made_up" in params:
        return None
    text = read_file(locate(params, base_dir).annotations, MAX_BYTES)
    start = text.rfind(b'"categories"')
    opening = text.find(b"[", start)
    try:
        window = text[opening : opening + _CATEGORIES].decode("utf-8", "ignore")
        entries, _ = json.JSONDecoder().raw_decode(window if start >= 0 else "")
        return [str(entry["name"]) for entry in sorted(entries, key=lambda entry: entry["id"])]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None  # opening the set reports what is wrong with the file


def _named_pictures(layout: Layout) -> set[str]:
    """Every `file_name` in the annotation file, which may have hundreds of megabytes and is not
    parsed for it; every file of the folder where that finds none."""
    try:
        text = read_file(layout.annotations, MAX_BYTES)
        names = {json.loads(name) for name in _FILE_NAME.findall(text)}
    except (OSError, ValueError):
        names = set()
    return {_relative(name, layout.images) for name in names} or set(files(layout.images))


def _relative(name: str, images: Path) -> str:
    """A file name as it is below the folder of pictures, where the file was written on another
    machine: with its folders in front, or with the separators of Windows."""
    if not _OF_ANOTHER_MACHINE.search(name):
        return name
    below = (tail for tail in tails(name) if not tail.startswith((".", "/")))
    return next((tail for tail in below if os.path.isfile(images / tail)), name)  # noqa: PTH113


def read_annotations(layout: Layout) -> dict[str, Any]:
    """The annotation file as COCO's own mapping. Raises DiagnosticError: QS912 where it is not
    one, QS910 where pictures that it names are absent."""
    content = read(layout.annotations)
    present = set(files(layout.images))
    for image in content["images"]:
        image["file_name"] = _relative(image["file_name"], layout.images)
    absent = [i["file_name"] for i in content["images"] if i["file_name"] not in present]
    if absent:
        total = len(content["images"])
        why = f"{len(absent)} of {total} pictures are missing"
        advice = "restore them, or take them out of the annotation file"
        advice = ADVICE if len(absent) == total else restoring(absent[0], present, advice)
        raise missing(layout.images / absent[0], why, advice)
    return content
