"""What `qatspec new DIR` says of files that it does not read."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS910
from qatspec.diag.words import quote_list
from qatspec.files import open_file
from qatspec.types import DatasetDef

#: Files of a folder that are looked at, suffixes that are told, label files that are tried.
_MAX_FILES, _SHOWN, _TRIED = 100_000, 6, 5
#: Bytes of a label file that are tried for what they are; a larger JSON file is not parsed.
_MAX_BYTES = 8 << 20
#: Suffixes of pictures that Pillow does not read by itself.
_OTHER_PICTURES = (
    ".arw", ".cr2", ".cr3", ".dng", ".exr", ".heic", ".heif", ".jxl", ".nef", ".psd", ".raw",
    ".svg",
)  # fmt: skip
#: Suffixes of pictures that are read.
_PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
#: Formats that change the numbers of a mask, and names of folders of masks.
_LOSSY = (".jpg", ".jpeg", ".webp")
_MASKS = ("masks", "mask", "segmentationclass", "gt", "targets", "segmentation", "annotations")
_EXPORT = "export it from the tool as COCO, VOC or YOLO, with the pictures"
#: Keys of a label file in JSON -> (what writes it, the way out).
_JSON_FORMS: Mapping[frozenset[str], tuple[str, str]] = {
    frozenset({"shapes", "imagePath"}): (
        "LabelMe",
        "`pip install labelme2yolo` and `labelme2yolo --json_dir DIR` write it as YOLO's label "
        "files into `DIR/YOLODataset`",
    ),
    frozenset({"_via_img_metadata"}): ("the VGG Image Annotator", _EXPORT),
    frozenset({"images", "annotations", "categories"}): (
        "COCO",
        "put the pictures that it names beside it, as `<split>/` for `annotations/"
        "instances_<split>.json`",
    ),
    frozenset({"annotations", "data"}): ("Label Studio", _EXPORT),
    frozenset({"objects", "size"}): ("Supervisely", _EXPORT),
    frozenset({"items", "categories"}): ("Datumaro", _EXPORT),
}


def unknown_folder(records: Sequence[DatasetDef], folder: Path) -> Diagnostic:
    """The error QS910 for a folder that none of `records` recognises: what lies in it, what reads
    it, and a way out. records: one, where --type names it."""
    files = list(islice(_files(folder), _MAX_FILES))
    held = f"it holds {_counted(files)}" if files else "it holds no file"
    span = Span(file=str(folder))
    known = [record for record in records if record.recognize is not None]
    if len(records) == 1:
        return QS910.diagnostic(
            f"data set `{records[0].name}` does not recognise what is in `{folder}`: {held}",
            help="leave --type out: what the folder holds is then recognised",
            span=span,
        )
    forms = "; ".join(f"`{record.name}`, {record.summary}" for record in known)
    read = f"these forms are read: {forms}; `qatspec plugins show NAME` says from which files"
    form = _form_of(files)
    if form is not None:
        tool, way = form
        return QS910.diagnostic(
            f"labels in the form of {tool} are not read as they lie in `{folder}`: {held}",
            help=f"{way}; then give that folder. Else {read}",
            span=span,
        )
    if _is_one_class(folder, files):
        return QS910.diagnostic(
            f"the pictures in `{folder}` are of one class at most: no label lies beside them, and "
            "they are in one folder",
            help="to tell classes apart, put the pictures of each into a folder that is called by "
            "the class, two or more beside each other (`intact/`, `broken/`), and give the folder "
            f"above them; to find one kind of object, add label files with its boxes. Here {read}",
            span=span,
        )
    return QS910.diagnostic(
        f"no data set recognises pictures with labels in `{folder}`: {held}",
        help=f"give the folder that holds both pictures and labels; {read}",
        span=span,
    )


def _is_one_class(folder: Path, files: Sequence[Path]) -> bool:
    """Whether there are pictures alone, in folders of one name or in the folder itself."""
    parents = {path.parent.name if path.parent != folder else "" for path in files}
    return len(parents) == 1 and all(path.suffix.lower() in _PICTURES for path in files)


def unread_pictures(folder: Path) -> list[str]:
    """A note of the pictures of a folder whose format is not read; nothing where there is none."""
    files = islice(_files(folder), _MAX_FILES)
    left = [path for path in files if path.suffix.lower() in _OTHER_PICTURES]
    if not left:
        return []
    kinds = quote_list(sorted({path.suffix.lower() for path in left}))
    return [f"not read: {len(left)} pictures of {kinds}; save them as .png or .jpg"]


def _files(folder: Path) -> Iterator[Path]:
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(names) if not name.startswith("."))


def _counted(files: Sequence[Path]) -> str:
    """Files by their suffix, in words."""
    counts = Counter(path.suffix.lower() or "no suffix" for path in files)
    words = [f"{count} files of {suffix}" if count > 1 else f"1 file of {suffix}"
             for suffix, count in counts.most_common(_SHOWN)]  # fmt: skip
    more = len(counts) - len(words)
    return ", ".join([*words, *([f"and {more} more kinds"] if more else [])])


def _form_of(files: Sequence[Path]) -> tuple[str, str] | None:
    """(what wrote the label files, the way out), where their contents say it."""
    for suffix, form_of in ((".json", _of_json), (".xml", _of_xml), (".txt", _of_text)):
        for path in [path for path in files if path.suffix.lower() == suffix][:_TRIED]:
            try:
                with open_file(path) as file:
                    text = file.read(_MAX_BYTES).decode("utf-8-sig", "replace")
            except OSError:
                continue
            if form := form_of(text):
                return form
    return _of_pictures(files)


def _of_pictures(files: Sequence[Path]) -> tuple[str, str] | None:
    """Masks that were saved with losses, in a folder of their own with the pictures' names."""
    lossy = [path for path in files if path.suffix.lower() in _LOSSY]
    masks = [path for path in lossy if any(part.lower() in _MASKS for part in path.parts[-3:-1])]
    named = {path.stem for path in masks}
    if not any(path.stem in named for path in set(lossy) - set(masks)):
        return None
    way = "write the masks as PNG from what they were made of: JPEG blends the numbers of classes"
    return "masks in JPEG", way


def _of_json(text: str) -> tuple[str, str] | None:
    try:
        content: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(content, list) and content:
        content = content[0]
    if not isinstance(content, dict):
        return None
    return next((form for keys, form in _JSON_FORMS.items() if keys <= content.keys()), None)


def _of_xml(text: str) -> tuple[str, str] | None:
    is_cvat = "<annotations" in text and "<image " in text
    return ("CVAT", _EXPORT) if is_cvat else None


def _of_text(text: str) -> tuple[str, str] | None:
    fields = (text.split("\n", 1)[0]).split()
    try:
        numbers = [float(field) for field in fields[-14:]]
    except ValueError:
        return None
    if len(fields) == 15 and fields[0].isalpha():
        return "KITTI", _EXPORT
    if len(fields) == 5 and len(numbers) == 5:
        way = (
            "name the folder of label files `labels` and that of the pictures `images`, each with "
            "the splits as folders, so that both have the same names"
        )
        return "YOLO", way
    return None
