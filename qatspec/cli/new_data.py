"""`qatspec new DIR`: what a folder of pictures and labels holds, and what a spec for it says."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from statistics import median

import click

from qatspec.cli.new_spec import Draft, Task
from qatspec.cli.new_tasks import TASKS, Library
from qatspec.cli.new_unknown import unknown_folder, unread_pictures
from qatspec.cli.output import echo, show
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS918
from qatspec.diag.words import quote_list
from qatspec.files import in_both
from qatspec.process import scratch_folder
from qatspec.registry import Registry, registry
from qatspec.schema import with_defaults
from qatspec.types import Dataset, DatasetDef, FoundData

#: Names of classes that are printed.
_SHOWN = 12
#: Height and width of pictures in a smoke run, where the model takes any.
_SMOKE_SIDE = 128
#: The tag of EXIF that says how a picture is turned, and its values for turns by a quarter.
_ORIENTATION, _ON_ITS_SIDE = 274, (5, 6, 7, 8)
#: Beginnings of names of files about a data set, and suffixes.
_ABOUT = ("readme", "license", "licence", "copying", "citation", "changelog", "notice")
_DOCUMENTS = (".md", ".rst", ".pdf", ".docx", ".html", ".log", ".zip", ".tar", ".gz", ".7z")


@dataclass(frozen=True)
class Inspected:
    """A folder that a data set recognises, opened. counts: pictures of train and val; sizes:
    (height, width) of some pictures."""

    folder: Path
    definition: DatasetDef
    data: FoundData
    classes: Sequence[str]
    counts: Mapping[str, int]
    sizes: Sequence[tuple[int, int]]

    def input_size(self, task: Task, march: str) -> list[int]:
        """The (height, width) of the model's input: those of the task, else of the pictures within
        the task's limits, as the resizes of the march can do them."""
        if task.size is not None:
            return list(task.size)
        height, width = (
            median([size[axis] for size in self.sizes] or [task.limit]) for axis in (0, 1)
        )
        factor = min(1.0, task.limit / max(height, width)) / task.multiple
        counts = [max(1, round(side * factor)) for side in (height, width)]
        if _resizes_by_powers_of_two(march):
            counts = [2 ** round(log2(count)) for count in counts]
        return [count * task.multiple for count in counts]

    def lines(self) -> list[str]:
        """What was found, in words."""
        shown = ", ".join(self.classes[:_SHOWN]) + ", ..." * (len(self.classes) > _SHOWN)
        lines = [
            f"{self.data.what} ({self.definition.name})",
            f"pictures: {', '.join(f'{count} for {role}' for role, count in self.counts.items())}",
            f"sizes: {_sizes(self.sizes)}",
            f"classes: {len(self.classes)}: {shown}",
        ]
        return [*lines, *self.data.notes]


def inspect(folder: Path, kind: str | None = None) -> Inspected:
    """Recognise and open the set in a folder; warnings about its labels are shown. kind: the name
    of the data set that it is read as; None for the one of the highest precedence.

    Raises DiagnosticError: QS910 where no data set recognises it, QS918 where its splits have other
    classes, and what opening it raises (QS958 for faults of labels)."""
    names = registry()
    folder = _set_folder(folder)
    definition, data, others = _recognized(names, folder, kind)
    task = TASKS[data.task]
    opened, counts = {}, {}
    with scratch_folder() as cache:
        for role, params in data.roles.items():
            chosen_params = {"root": ".", "size": task.multiple, **params}
            complete = with_defaults(definition.params, chosen_params)
            with names.attribute_errors(definition, f"opening `{definition.name}`"):
                opened[role] = definition.open(complete, cache, folder)
            counts[role] = len(opened[role])
            show(getattr(opened[role], "diagnostics", ()))
    train, val = (list(opened[role].classes) for role in ("train", "val"))
    if train != val:
        raise DiagnosticError(_other_classes(folder, train, val))
    sizes, damaged = _sizes_of(data.pictures)
    notes = [*data.notes, *_in_both(opened), *damaged, *unread_pictures(folder)]
    if others:
        notes.append(f"it could also be read as {quote_list(others)} (--type)")
    return Inspected(folder, definition, replace(data, notes=notes), train, counts, sizes)


def _in_both(opened: Mapping[str, Dataset]) -> list[str]:
    """A note of pictures that are in train and in val."""
    train, val = (getattr(opened[role], "pictures", ()) for role in ("train", "val"))
    pairs = in_both(train, val)
    if not pairs:
        return []
    mine, other = pairs[0]
    are = f"{len(pairs)} pictures are" if len(pairs) > 1 else "a picture is"
    return [f"{are} in train and in val: `{other}` holds the bytes of `{mine}` (QS965)"]


def draft(
    inspected: Inspected, name: str, output: Path, march: str, library: Library | None = None
) -> Draft:
    """The spec, to be written into the folder `output`. library: a classifier to begin with.

    Raises UsageError for a classifier on data without a class for each picture."""
    recognized = inspected.data
    if library is not None and recognized.task != "classification":
        raise click.UsageError(
            f"`{inspected.folder}` is a set for {recognized.task}, and --from takes one for "
            "classification"
        )
    task = library.task if library else TASKS[recognized.task]
    root = os.path.relpath(inspected.folder, output)
    train = {"root": root, **recognized.roles["train"]}
    count = inspected.counts["train"]
    size = inspected.input_size(task, march)
    small = task.size is None and max(size) > _SMOKE_SIDE
    return Draft(
        name=name,
        march=march,
        said=[
            f"What `qatspec new` found in {root}:",
            *(f"  {line}" for line in inspected.lines()),
            *(library.notes if library else ()),
        ],
        task=task,
        model_params={**task.params, "num_classes": len(inspected.classes)},
        size=size,
        dataset=inspected.definition.name,
        roles={
            "train": {**train, "augment": dict(task.augment)},
            "calibration": train,
            "val": {"root": root, **recognized.roles["val"]},
        },
        batch=max(1, min(8, count)),
        workers=2 if count >= 200 else 0,
        smoke={
            "vars": {"batch_size": min(2, count)},
            **({"model": {"input": {"size": [_SMOKE_SIDE] * 2}}} if small else {}),
            **task.smoke,
        },
    )


def spec_name(text: str) -> str:
    """The name of the spec of a folder or model, with the characters that a name may have."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")
    return name[:60] or "data"


def _set_folder(folder: Path) -> Path:
    """Return the folder that holds the data set: an unpacked archive often has one folder alone,
    which is entered, beside notes about the set."""
    while True:
        there = [
            path
            for path in folder.iterdir()
            if not path.name.startswith((".", "__MACOSX")) and not _is_about(path)
        ]
        if len(there) != 1 or not there[0].is_dir():
            return folder
        folder = there[0]


def _is_about(path: Path) -> bool:
    """Return whether a file is about a data set and no part of it, by its name."""
    is_read_first = path.name.lower().startswith(_ABOUT)
    return path.is_file() and (is_read_first or path.suffix.lower() in _DOCUMENTS)


def _recognized(
    names: Registry, folder: Path, kind: str | None
) -> tuple[DatasetDef, FoundData, list[str]]:
    """The data set that recognises a folder, and the names of others that do."""
    wanted = names.names("dataset") if kind is None else [kind]
    records = [names.dataset(name) for name in wanted]
    matches: list[tuple[DatasetDef, FoundData]] = []
    for record in sorted(records, key=lambda record: (-record.precedence, record.name)):
        if record.recognize is not None:
            with names.attribute_errors(record, f"recognize of data set `{record.name}`"):
                data = record.recognize(folder)
            if data is not None:
                matches.append((record, data))
    if not matches:
        raise DiagnosticError(unknown_folder(records, folder))
    (definition, data), *others = matches
    return definition, data, [record.name for record, _ in others]


def _other_classes(folder: Path, train: Sequence[str], val: Sequence[str]) -> Diagnostic:
    only = [(role, sorted(set(mine) - set(other))) for role, mine, other in
            (("train", train, val), ("val", val, train))]  # fmt: skip
    said = "; ".join(
        f"only {role} has {quote_list(names[:_SHOWN])}" for role, names in only if names
    )
    return QS918.diagnostic(
        f"train and val have other classes: {said or 'their order differs'}",
        help="give both the same classes in the same order; a class need not have labels in both",
        span=Span(file=str(folder)),
    )


def _resizes_by_powers_of_two(march: str) -> bool:
    """Return whether a map of a size that is no power of two could not be resized from one pixel,
    as segmenters do with the mean of the picture."""
    from qatspec.kinds import KINDS, Trait

    ops = registry().march(march).capabilities.ops or {}
    resizing = [name for name in ops if name in KINDS and Trait.RESIZES in KINDS[name].traits]
    limits = [limit for name in resizing for limit in ops[name].limits]
    return any(limit.of == "scale_factor" and limit.power_of_two for limit in limits)


def _sizes_of(pictures: Sequence[Path]) -> tuple[list[tuple[int, int]], list[str]]:
    """(height, width) of the pictures whose beginning can be read, and a note of the others."""
    sizes = {path: _size_of(path) for path in pictures}
    damaged = [path for path, size in sizes.items() if size is None]
    notes = []
    if damaged:
        notes.append(
            f"{len(damaged)} of {len(sizes)} looked at pictures cannot be read and will be "
            f"left out, the first is `{damaged[0].name}`"
        )
    return [size for size in sizes.values() if size], notes


def _size_of(path: Path) -> tuple[int, int] | None:
    """(height, width) of an upright picture; None where it cannot be read, by the beginning of its
    file."""
    from PIL import Image

    from qatspec.picture import MAX_PIXELS

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of pictures above another limit
            image = Image.open(path)
        with image:
            if image.width * image.height > MAX_PIXELS:
                return None
            turned = image.getexif().get(_ORIENTATION, 1) in _ON_ITS_SIDE
            return (image.width, image.height) if turned else (image.height, image.width)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def _sizes(sizes: Sequence[tuple[int, int]]) -> str:
    """Sizes in words, width first as people say them."""
    if not sizes:
        return "unknown, no picture could be read"
    counts = Counter(sizes)
    (height, width), most = counts.most_common(1)[0]
    if len(counts) == 1:
        return f"{width} x {height}"
    widths, heights = [w for _, w in sizes], [h for h, _ in sizes]
    return (
        f"{min(widths)} to {max(widths)} wide, {min(heights)} to {max(heights)} high; "
        f"{width} x {height} most often ({most} of {len(sizes)})"
    )


def print_found(inspected: Inspected) -> None:
    """Say what was found."""
    echo(f"{inspected.folder}: {inspected.lines()[0]}")
    for line in inspected.lines()[1:]:
        echo(f"  {line}")
