"""Where the files of a YOLO set lie, and what they say. Standard library and PyYAML only."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from qatspec.api import Diagnostic, content_digest, read_file, why_no_folder, why_unreadable
from qatspec_vision.data import names
from qatspec_vision.data.files import chosen_part, files, lines, missing, pictures, with_transforms
from qatspec_vision.data.problems import Problems, omission_warning, shared, unpaired
from qatspec_vision.data.texts import decoded, restoring

ADVICE = (
    "set `root` and `split` so that `<root>/images/<split>/` and `<root>/labels/<split>/` exist, "
    "or name both by `images` and `labels`"
)
_FORM = "a line is `class x y width height`, the centre and size of a box from 0 to 1"
#: A label file has a line for each object.
_MAX_BYTES = 64 << 20
#: How far a number of rounded text may lie outside of 0 to 1.
_SLACK = 1e-3


class Pair(NamedTuple):
    """A picture and its label file, None where it has none. name: relative to the pictures."""

    name: str
    labels: Path | None


class Layout(NamedTuple):
    """A set on disk. classes: in label order. keypoints: whether lines hold points after the
    box."""

    images: Path
    labels: Path
    pairs: list[Pair]
    classes: list[str]
    keypoints: bool = False


class Box(NamedTuple):
    """An object: bbox (x, y, width, height) in shares of the picture."""

    label: int
    bbox: list[float]


def locate(params: Mapping[str, Any], base_dir: Path) -> Layout:
    """The files that params name. Raises DiagnosticError: QS910 where one is not there, QS958 for
    a file of class names that holds none."""
    root, images, labels = _folders(params, base_dir)
    files_there = pictures(images)
    if not files_there:
        raise missing(images, "no picture in it", ADVICE)
    if listed := params.get("list"):
        wanted = _listed(root / listed.replace("{split}", params["split"]), files_there, images)
        files_there = [name for name in files_there if name in wanted]
    present = {name for name in files(labels) if name.endswith(".txt")}
    named = [(name, str(PurePosixPath(name).with_suffix(".txt"))) for name in files_there]
    if not any(text in present for _, text in named):
        why = "no label file `*.txt` of a picture in it"
        raise missing(labels, why, ADVICE)
    part = chosen_part(files_there, params)
    pairs = [
        Pair(name, labels / text if text in present else None)
        for name, text in named
        if name in part
    ][: params.get("limit")]
    said = names.class_names(_names(params), root)
    return Layout(images, labels, pairs, said.classes, said.keypoints)


def _listed(path: Path, known: list[str], images: Path) -> set[str]:
    """The pictures that a list names: its paths may start from any folder above them.

    Raises DiagnosticError QS910 for a list that cannot be read and for a picture that is not there.
    """
    try:
        text = decoded(read_file(path, _MAX_BYTES), "surrogateescape")
    except OSError as error:
        advice = "name the list of the split by `list`"
        raise missing(path, why_unreadable(error), advice) from error
    there, names = set(known), set[str]()
    for line in lines(text):
        if parts := PurePosixPath(line.strip().replace("\\", "/")).parts:
            tails = ("/".join(parts[at:]) for at in range(len(parts)))
            name = next((tail for tail in tails if tail in there), None)
            if name is None:
                advice = "restore the picture, or take its line out of the list"
                raise missing(images / parts[-1], f"`{path.name}` lists it, and it is not there",
                              restoring(parts[-1], known, advice))  # fmt: skip
            names.add(name)
    if not names:
        raise missing(path, "it lists no picture", "write a path on each line")
    return names


def class_names(params: Mapping[str, Any], base_dir: Path) -> list[str]:
    """The classes in label order. Raises DiagnosticError QS910, QS958."""
    root, _, _ = _folders(params, base_dir)
    return names.class_names(_names(params), root).classes


@with_transforms
def fingerprint(params: Mapping[str, Any], base_dir: Path) -> str:
    """Digest the classes, the pictures and their label files, under the pictures' names."""
    layout = locate(params, base_dir)
    shown = {f"picture/{pair.name}": layout.images / pair.name for pair in layout.pairs}
    told = {f"labels/{pair.name}": pair.labels for pair in layout.pairs if pair.labels}
    return content_digest({**shown, **told}, layout.classes)


def read_labels(layout: Layout) -> tuple[dict[str, list[Box]], tuple[Diagnostic, ...]]:
    """The objects of each picture, by its name, and warnings.

    Raises DiagnosticError QS958 with the places of lines that are not labels."""
    problems, boxes = Problems(), dict[str, list[Box]]()
    empty: list[tuple[Path, int, str]] = []
    for pair in layout.pairs:
        boxes[pair.name] = []
        if pair.labels is None:
            continue
        try:
            text = decoded(read_file(pair.labels, _MAX_BYTES))
        except OSError as error:
            problems.add(pair.labels, 0, why_unreadable(error), "restore the file")
            continue
        for line, written in enumerate(lines(text), start=1):
            try:
                box = _box(written, layout)
            except _NoLabelError as fault:
                why, help_ = str(fault), fault.help
                problems.add(pair.labels, line, why, help_, col=fault.col, text=text)
                continue
            if box and min(box.bbox[2:]) > 0:
                boxes[pair.name].append(box)
            elif box:
                empty.append((pair.labels, line, written.strip()))
    problems.stop()
    without = [pair.name for pair in layout.pairs if pair.labels is None]
    warnings = unpaired("label file", without, len(layout.pairs), layout.labels)
    warnings += shared("label file", (pair.name for pair in layout.pairs), layout.labels)
    if empty:
        path, line, written = empty[0]
        warnings += omission_warning(len(empty), f"`{written}`, a box without a size", path, line)
    return boxes, warnings


class _NoLabelError(Exception):
    """Why a line is not a label; help: what is; col: where, from 1."""

    def __init__(self, why: str, help_: str = _FORM, col: int = 1) -> None:
        super().__init__(why)
        self.help, self.col = help_, col


def _box(written: str, layout: Layout) -> Box | None:
    """The object of a line, None for an empty line. Raises _NoLabelError."""
    classes = layout.classes
    fields = list(_fields(written))
    if layout.keypoints and len(fields) > 5:
        fields = fields[:5]
    if not fields:
        return None
    numbers = [_number(text, col) for text, col in fields]
    count = len(fields)
    if count == 6:
        more = f"{_FORM}; a sixth number, the score of a prediction, is not part of a label"
        raise _NoLabelError("a label has 5 numbers, this line has 6", more)
    if count != 5 and (count < 7 or count % 2 == 0):
        raise _NoLabelError(f"a label has 5 numbers, this line has {count}")
    label, *shares = numbers
    if label != int(label):
        raise _NoLabelError(f"the class `{fields[0][0]}` is not a whole number", col=fields[0][1])
    if not 0 <= label < len(classes):
        raise _NoLabelError(
            f"class {int(label)} is not from 0 to {len(classes) - 1}: there are {len(classes)} "
            "class names",
            "correct the line, or add the names of further classes to `classes`",
            fields[0][1],
        )
    for (text, col), share in zip(fields[1:], shares, strict=True):
        if not -_SLACK <= share <= 1 + _SLACK:
            help_ = f"{_FORM}; divide pixels by the picture's width and height"
            raise _NoLabelError(f"`{text}` is not from 0 to 1", help_, col)
    return Box(int(label), _clipped(shares))


def _fields(written: str) -> Iterator[tuple[str, int]]:
    """Each field of a line with its column, from 1."""
    return ((match.group(), match.start() + 1) for match in re.finditer(r"\S+", written))


def _number(text: str, col: int) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise _NoLabelError(f"`{text}` is not a number", col=col)
    return number


def _clipped(numbers: list[float]) -> list[float]:
    """The bbox of a centre and a size, or of a polygon, as far as it lies in the picture."""
    if len(numbers) == 4:
        x, y, width, height = numbers
        xs, ys = [x - width / 2, x + width / 2], [y - height / 2, y + height / 2]
    else:
        xs, ys = numbers[::2], numbers[1::2]
    ends = (min(xs), max(xs), min(ys), max(ys))
    left, right, top, bottom = (min(max(end, 0.0), 1.0) for end in ends)
    return [left, top, right - left, bottom - top]


def _names(params: Mapping[str, Any]) -> Any:
    return params["classes"]


def _folders(params: Mapping[str, Any], base_dir: Path) -> tuple[Path, Path, Path]:
    root, split = base_dir / Path(params["root"]).expanduser(), params["split"]
    folders = [
        root / params.get(key, f"{key}/{{split}}").replace("{split}", split)
        for key in ("images", "labels")
    ]
    for folder in folders:
        if why := why_no_folder(folder):
            raise missing(folder, why, ADVICE)
    return root, folders[0], folders[1]
