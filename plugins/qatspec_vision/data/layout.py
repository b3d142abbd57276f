"""Where the files of a COCO set lie, and what they say. Standard library only: a plan's digest
needs the fingerprint, and planning loads neither torch nor numpy."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qatspec.api import Diagnostic, DiagnosticError, Span, content_digest
from qatspec_vision.data.files import files, made_up_digest, missing

ADVICE = (
    "set `root` and `split` so that `<root>/annotations/instances_<split>.json` and "
    "`<root>/<split>/` exist, or name both by `annotations` and `images`"
)

#: The parts of COCO's annotation format that detection needs (cocodataset.org/#format-data).
SECTIONS = {
    "images": ("id", "file_name"),
    "annotations": ("image_id", "category_id", "bbox"),
    "categories": ("id", "name"),
}


_FILE_NAME = re.compile(rb'"file_name"\s*:\s*("(?:[^"\\]|\\.)*")')


class Layout(NamedTuple):
    """A set on disk: the annotation file and the folder that its file names start from."""

    annotations: Path
    images: Path


def locate(params: Mapping[str, Any], base_dir: Path) -> Layout:
    """The files that params name. Raises DiagnosticError QS910 where one is not there."""
    root = base_dir / Path(params["root"]).expanduser()
    split = params["split"]
    layout = Layout(
        root / params.get("annotations", "annotations/instances_{split}.json").format(split=split),
        root / params.get("images", "{split}").format(split=split),
    )
    if not layout.annotations.is_file():
        raise missing(layout.annotations, "no such file", ADVICE)
    if not layout.images.is_dir():
        raise missing(layout.images, "no such folder", ADVICE)
    return layout


def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the annotation file and the pictures that it names, never paths."""
    if "made_up" in params:
        return made_up_digest(params)
    layout = locate(params, base_dir)
    named = {f"images/{name}": layout.images / name for name in _named_pictures(layout)}
    return content_digest({"annotations": layout.annotations, **named})


def _named_pictures(layout: Layout) -> set[str]:
    """Every `file_name` in the annotation file, which may have hundreds of megabytes and is not
    parsed for it; every file of the folder where that finds none."""
    try:
        text = layout.annotations.read_bytes()
        found = {json.loads(name) for name in _FILE_NAME.findall(text)}
    except (OSError, ValueError):
        found = set()
    return found or set(files(layout.images))


def read_annotations(layout: Layout) -> dict[str, Any]:
    """The annotation file as COCO's own mapping. Raises DiagnosticError: QS912 where it is not
    one, QS910 where pictures that it names are absent."""
    try:
        content = json.loads(layout.annotations.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _malformed(layout.annotations, str(error)) from error
    if not isinstance(content, dict):
        raise _malformed(layout.annotations, "the top level is not a mapping")
    for section, keys in SECTIONS.items():
        entries = content.get(section)
        if not isinstance(entries, list):
            raise _malformed(layout.annotations, f"there is no list `{section}`")
        for index, entry in enumerate(entries):
            absent = [k for k in keys if not isinstance(entry, dict) or k not in entry]
            if absent:
                raise _malformed(layout.annotations, f"{section}[{index}] has no `{absent[0]}`")
    if not content["images"]:
        raise _malformed(layout.annotations, "`images` is empty")

    present = set(files(layout.images))
    absent = [i["file_name"] for i in content["images"] if i["file_name"] not in present]
    if absent:
        total = len(content["images"])
        why = f"{len(absent)} of {total} pictures are missing"
        raise missing(layout.images / absent[0], why, ADVICE)
    return content


def _malformed(path: Path, why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="QS912",
            message=f"`{path.name}` is not a COCO detection file: {why}",
            help="see https://cocodataset.org/#format-data",
            span=Span(file=str(path)),
        )
    )
