"""Frames of videos, by PyAV where that is installed."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS915
from qatspec.process import scratch_folder

#: How names of video files end, in lower case.
SUFFIXES = (
    ".avi", ".flv", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv",
)  # fmt: skip


def is_video(path: Path) -> bool:
    """Return whether the name is that of a video file."""
    return path.suffix.lower() in SUFFIXES


def frames(
    path: Path, every: int, unusable: Callable[[Path, str, str], DiagnosticError]
) -> Iterator[tuple[int, Path]]:
    """(number, upright picture file) of each `every`-th frame of a video, numbered from 0.

    Each file is deleted when the next one is requested, so that no video is stored as pictures.
    Raises DiagnosticError: QS915 without PyAV, what `unusable` gives where the video cannot be
    decoded (after the frames that can)."""
    av = _library(path)
    number = -1
    with scratch_folder() as folder:
        picture = folder / "frame.png"
        try:
            with av.open(str(path)) as container:
                for number, frame in enumerate(container.decode(video=0)):
                    if number % every == 0:
                        _upright(frame).save(picture, compress_level=1)
                        yield number, picture
        except (av.error.FFmpegError, IndexError) as error:
            why = getattr(error, "strerror", None) or "it has no pictures"
            at = "" if number < 0 else f" after frame {number}"
            raise unusable(path, f"it cannot be decoded{at}: {why}", "restore the file") from error
    if number < 0:
        raise unusable(path, "it has no frame", "give another video")


def _upright(frame: Any) -> Any:
    """The frame as a picture that is turned as its rotation tag says: degrees, counterclockwise."""
    image = frame.to_image()
    angle = getattr(frame, "rotation", 0)
    return image.rotate(angle, expand=True) if angle else image


def _library(path: Path) -> Any:
    try:
        return importlib.import_module("av")
    except ModuleNotFoundError:
        raise QS915.error(
            f"`{path.name}` is a video, which needs the package `av` (PyAV)",
            help="pip install 'qatspec[video]', or give its frames as pictures",
            span=Span(file=str(path)),
        ) from None
