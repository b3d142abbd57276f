"""What `infer --input` names: pictures, videos, folders of both, and arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qatspec.cli import video
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS911, QS923
from qatspec.files import how_to_read, open_file, why_unreadable

if TYPE_CHECKING:
    import numpy as np

    from qatspec.types import PixelSample, Sample

_READABLE = "name a picture or a video that can be opened, an .npy array, or a folder of pictures"
Read = Callable[[Path], "Sample | PixelSample"]
Warn = Callable[[Diagnostic], None]


@dataclass(frozen=True, kw_only=True)
class Input:
    """One input of a model.

    path     names of its files begin with the stem.
    told     what predictions.json calls it: its path below the folder of inputs; "": the file name.
    arrays   the inputs of forward without a batch, pictures float32 (C, H, W), as the model takes
             them.
    meta     what restores predictions to the picture; empty for arrays.
    picture  the file to draw on, which may be gone when the next input is asked for; None for
             arrays.
    """

    path: Path
    arrays: tuple[np.ndarray, ...]
    meta: Any = field(default_factory=dict)
    picture: Path | None = None
    told: str = ""


def inputs(
    source: Path, read: Read, warn: Warn, *, output: Path, every: int = 1
) -> Iterator[Input]:
    """The inputs of a picture, a video, or a folder of both with the folders below it.

    output: the folder where results are written, which is left out. every: the distance of the
    frames of a video that are read.

    Pictures of a folder that cannot be read are warned of and left out, unless none can be.
    Raises DiagnosticError: QS923, QS915 (a video without the package that reads it), and what
    `read` raises of a single picture or of every one.
    """
    paths, yielded = _files(source, output), 0
    for path in paths:
        try:
            for one in _of_file(path, read, every):
                yielded += 1
                inside = source.is_dir()
                yield replace(one, told=one.path.relative_to(source).as_posix()) if inside else one
        except DiagnosticError as error:  # noqa: PERF203
            if not source.is_dir():
                raise DiagnosticError([_of_a_file(d) for d in error.diagnostics]) from error
            if path == paths[-1] and not yielded:
                raise
            warn_of(error, warn)


def _of_a_file(diagnostic: Diagnostic) -> Diagnostic:
    """What is told of a file that was named, and is no part of a data set."""
    return replace(diagnostic, help=_READABLE) if diagnostic.code == QS911 else diagnostic


def warn_of(error: DiagnosticError, warn: Warn) -> None:
    for diagnostic in error.diagnostics:
        warn(replace(diagnostic, severity="warning"))


def array_inputs(source: Path, array: np.ndarray) -> Iterator[Input]:
    """The examples (N, ...) of an array, in the model's own numbers."""
    for number, image in enumerate(array):
        yield Input(path=source.with_name(f"{source.stem}-{number:04d}.npy"), arrays=(image,))


def load_array(path: Path, *, batch: bool = True) -> np.ndarray:
    """An .npy array of finite numbers, with a batch in front unless said otherwise. Raises
    DiagnosticError QS923."""
    import numpy as np

    try:
        with open_file(path) as file:
            array: np.ndarray = np.load(file, allow_pickle=False)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, EOFError) as error:
        raise unusable(path, f"it is not an array: {error}", "write it with numpy.save") from error
    if batch and array.ndim < 2:
        raise unusable(path, f"its shape is {array.shape}", "put the batch first")
    if array.dtype.kind not in "fiu":
        raise unusable(path, f"it holds {array.dtype}, not numbers", "give floats or integers")
    if array.size == 0:
        raise unusable(path, f"its shape is {array.shape}: it holds no image", "add one")
    with np.errstate(over="ignore"):
        finite = array.dtype.kind != "f" or np.isfinite(array.astype(np.float32)).all()
    if not finite:
        why = "it holds NaN, infinity or numbers beyond float32"
        raise unusable(path, why, "replace them (numpy.nan_to_num), or correct what made them")
    return array


def unusable(path: Path, why: str, help_: str) -> DiagnosticError:
    """QS923 for an input."""
    return QS923.error(
        f"`{path.name}` cannot be used: {why}", help=help_, span=Span(file=str(path))
    )


def unreadable(path: Path, error: OSError) -> DiagnosticError:
    """QS923 for an input that cannot be opened."""
    return unusable(path, why_unreadable(error), how_to_read(error, "correct the path"))


def _of_file(path: Path, read: Read, every: int) -> Iterator[Input]:
    try:
        open_file(path).close()  # readers of plugins would wait for a named pipe
    except OSError as error:
        raise unreadable(path, error) from error
    if not video.is_video(path):
        yield _picture(path, path, read)
        return
    for number, frame in video.frames(path, every, unusable):
        yield _picture(path.with_name(f"{path.stem}-{number:06d}{path.suffix}"), frame, read)


def _picture(named: Path, picture: Path, read: Read) -> Input:
    sample = read(picture)
    given = sample.image
    (image,) = given.values() if isinstance(given, Mapping) else (given,)
    image = image.astype("float32", copy=False)  # a foreign byte order
    return Input(path=named, arrays=(image,), meta=sample.meta, picture=picture)


def _files(source: Path, output: Path) -> list[Path]:
    """The picture or video, or those of a folder. Hidden files and folders are left out."""
    if not source.is_dir():
        return [source]
    from qatspec.picture import suffixes

    known, results = suffixes(), output.resolve()
    files: list[Path] = []
    for parent, folders, names in os.walk(source):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and Path(parent, name).resolve() != results
        )
        paths = (Path(parent, name) for name in sorted(names) if not name.startswith("."))
        files += [p for p in paths if p.suffix.lower() in known or video.is_video(p)]
    if not files:
        raise unusable(
            source, "it holds no picture or video", "give a folder with pictures in or below it"
        )
    return files
