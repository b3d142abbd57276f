"""Where the files of a VOC set lie, and what they say. Standard library and PyYAML only."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qatspec.api import Diagnostic, content_digest, read_file, why_no_folder, why_unreadable
from qatspec_vision.data import names, xml_lines
from qatspec_vision.data.files import chosen_part, files, lines, missing, pictures, with_transforms
from qatspec_vision.data.problems import Problems, omission_warning, shared, unpaired
from qatspec_vision.data.texts import decoded, restoring
from qatspec_vision.data.xml_lines import Element

ADVICE = (
    "set `root` and `split` so that `<root>/JPEGImages/`, `<root>/Annotations/*.xml` and "
    "`<root>/ImageSets/Main/<split>.txt` exist, or name them by `images`, `annotations` and `list`"
)
_BOX = "an object has `name` and `bndbox` with xmin, ymin, xmax and ymax in pixels, from 1"
_MAX_BYTES = 64 << 20


class Layout(NamedTuple):
    """A set on disk. pairs: names of pictures below `images`, with the annotation file, None where
    there is none. every: all annotation files of the folder, also of other splits."""

    images: Path
    annotations: Path
    pairs: list[tuple[str, Path | None]]
    every: list[Path]


class Box(NamedTuple):
    """An object: its name, bbox (x, y, width, height) in pixels, and whether it is `difficult`."""

    name: str
    bbox: list[float]
    difficult: bool


class Annotation(NamedTuple):
    """What a file says. size: (width, height) in pixels, None where it does not say."""

    size: tuple[int, int] | None
    boxes: list[Box]


def locate(params: Mapping[str, Any], base_dir: Path) -> Layout:
    """The files that params name. Raises DiagnosticError QS910 where one is not there."""
    root, images, annotations = _folders(params, base_dir)
    texts = {name for name in files(annotations) if name.endswith(".xml")}
    by_stem = {str(PurePosixPath(name).with_suffix("")): name for name in pictures(images)}
    listed = params["list"]
    stems = sorted(by_stem)
    if listed:
        stems = _listed(root / listed.replace("{split}", params["split"]), by_stem, images)
    if not stems:
        raise missing(images, "no picture in it", ADVICE)
    if not any(f"{stem}.xml" in texts for stem in stems):
        raise missing(annotations, "no annotation file `*.xml` of a picture in it", ADVICE)
    part = chosen_part(stems, params)
    pairs = [
        (by_stem[stem], annotations / f"{stem}.xml" if f"{stem}.xml" in texts else None)
        for stem in stems
        if stem in part
    ][: params.get("limit")]
    return Layout(images, annotations, pairs, [annotations / name for name in sorted(texts)])


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the classes, the pictures and their annotation files, under the pictures' names."""
    layout = locate(params, base_dir)
    shown = {f"picture/{name}": layout.images / name for name, _ in layout.pairs}
    told = {f"labels/{name}": path for name, path in layout.pairs if path}
    facts = _given_classes(params, base_dir)
    if facts is None:  # every file of the folder may name a class
        told |= {f"every/{path.name}": path for path in layout.every}
    return content_digest({**shown, **told}, facts)


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str]:
    """The classes that the spec names, or else the annotation files, all of which are read for it:
    VOC 2012 has 17,000, which take seconds. Raises DiagnosticError QS910, QS958."""
    _folders(params, base_dir)
    listed = _given_classes(params, base_dir)
    if listed is not None:
        return listed
    return read_annotations(locate(params, base_dir), params, base_dir)[1]


def read_annotations(
    layout: Layout, params: Mapping[str, Any], base_dir: Path
) -> tuple[dict[str, Annotation], list[str], tuple[Diagnostic, ...]]:
    """What is said of each picture, by its name; the classes in label order; and warnings.

    Without `classes`, the classes are the names in all files of the folder, sorted, so that the
    splits of a set agree. Raises DiagnosticError QS958 with the places of faults."""
    problems, empty = Problems(), list[tuple[Path, int, str]]()
    listed = _given_classes(params, base_dir)
    in_split = {path for _, path in layout.pairs if path}
    read = {path: _read(path, listed, problems, empty) for path in
            ([*layout.every] if listed is None else sorted(in_split))}  # fmt: skip
    problems.stop()
    classes = listed or sorted({box.name for a in read.values() for box in a.boxes})
    annotations = {
        name: read[path] if path else Annotation(None, []) for name, path in layout.pairs
    }
    without = [name for name, path in layout.pairs if path is None]
    warnings = unpaired("annotation file", without, len(layout.pairs), layout.annotations)
    there = pictures(layout.images)
    warnings += shared("annotation file", there, layout.images, "the last of them is used")
    if empty := [row for row in empty if row[0] in in_split]:
        path, line, what = empty[0]
        warnings += omission_warning(len(empty), what, path, line)
    return annotations, classes, warnings


def _read(
    path: Path, classes: list[str] | None, problems: Problems, empty: list[tuple[Path, int, str]]
) -> Annotation:
    try:
        data = read_file(path, _MAX_BYTES)
        root = xml_lines.parse(data)
    except OSError as error:
        problems.add(path, 0, why_unreadable(error), "restore the file")
        return Annotation(None, [])
    except xml_lines.MalformedError as error:
        problems.add(path, error.line, f"it is not XML: {error}", _how_to_write(data))
        return Annotation(None, [])
    text, boxes = data.decode("utf-8", "replace"), []
    if root.tag != "annotation":
        why = f"the root element is `{root.tag}`, not `annotation`"
        problems.add(path, root.line, why, "give VOC annotations", text=text)
    for entry in root.all("object"):
        name, box = entry.one("name"), entry.one("bndbox")
        edges = [_number(box.one(tag) if box else None) for tag in ("xmin", "ymin", "xmax", "ymax")]
        if name is None or not name.text:
            problems.add(path, entry.line, "an object has no `name`", _BOX, text=text)
        elif classes is not None and name.text not in classes:
            help_ = "correct the name, or add it to `classes`"
            why = f"`{name.text}` is none of the classes"
            problems.add(path, name.line, why, help_, text=text)
        elif None in edges:
            line = box.line if box else entry.line
            why = f"the box of `{name.text}` lacks a number"
            problems.add(path, line, why, _BOX, text=text)
        else:
            left, top, right, bottom = (edge or 0.0 for edge in edges)
            if right > left and bottom > top:
                x, y = max(left - 1, 0.0), max(top - 1, 0.0)  # the first pixel is number 1
                bbox = [x, y, right - x, bottom - y]
                difficult = entry.one("difficult")
                is_difficult = difficult is not None and difficult.text == "1"
                boxes.append(Box(name.text, bbox, is_difficult))
            else:
                empty.append((path, entry.line, f"a box of `{name.text}` without a size"))
    return Annotation(_size(root), boxes)


def _how_to_write(data: bytes) -> str:
    """The way out for a file that is not XML, from its bytes."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return (
            "save it as UTF-8, or name its encoding in the first line: "
            '`<?xml version="1.0" encoding="iso-8859-1"?>`'
        )
    return "write the file again"


def _number(element: Element | None) -> float | None:
    try:
        number = float(element.text) if element else math.nan
    except ValueError:
        number = math.nan
    return number if math.isfinite(number) else None


def _size(root: Element) -> tuple[int, int] | None:
    size = root.one("size")
    width, height = (_number(size.one(tag) if size else None) for tag in ("width", "height"))
    return (int(width), int(height)) if width and height else None


def _listed(path: Path, by_stem: Mapping[str, str], images: Path) -> list[str]:
    """The pictures of a list: a name on each line, and what else stands there."""
    try:
        text = decoded(read_file(path, _MAX_BYTES), "surrogateescape")
    except OSError as error:
        raise missing(path, why_unreadable(error), ADVICE) from error
    problems, stems, present = Problems(), [], list[str]()
    for line, written in enumerate(lines(text), start=1):
        if not written.strip():
            continue
        stem = _stem_of(written.strip(), by_stem)
        if stem is None:
            help_ = f"remove the line, or add the picture to `{images}`"
            help_ = restoring(written.strip(), present or (present := files(images)), help_)
            problems.add(path, line, f"there is no picture `{written.strip()}`", help_, text=text)
        else:
            stems.append(stem)
    problems.stop()
    return stems


def _stem_of(written: str, by_stem: Mapping[str, str]) -> str | None:
    """The picture that a line names: the line or its first word, with or without a suffix."""
    names = (written, written.split()[0])
    known = (n for name in names for n in (name, str(PurePosixPath(name).with_suffix(""))))
    return next((name for name in known if name in by_stem), None)


def _folders(params: Mapping[str, Any], base_dir: Path) -> tuple[Path, Path, Path]:
    root, split = base_dir / Path(params["root"]).expanduser(), params["split"]
    images, annotations = (
        root / params.get(key, default).replace("{split}", split)
        for key, default in (("images", "JPEGImages"), ("annotations", "Annotations"))
    )
    for folder in (images, annotations):
        if why := why_no_folder(folder):
            raise missing(folder, why, ADVICE)
    return root, images, annotations


def _given_classes(params: Mapping[str, Any], base_dir: Path) -> list[str] | None:
    classes = params.get("classes")
    root = base_dir / Path(params["root"]).expanduser()
    return None if classes is None else names.class_names(classes, root).classes
