"""Files of data sets. Standard library only: a plan digests their contents, and planning loads
neither torch nor numpy."""

from __future__ import annotations

import difflib
import functools
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from qatspec.api import (
    DiagnosticError,
    Span,
    codes,
    content_digest,
    open_file,
    why_unreadable,
)

#: What is taken for a picture, by the end of its name.
PICTURES = (
    ".apng", ".avif", ".avifs", ".bmp", ".dib", ".gif", ".j2c", ".j2k", ".jfif", ".jp2", ".jpc",
    ".jpe", ".jpeg", ".jpf", ".jpg", ".jpx", ".mpo", ".pbm", ".pcx", ".pfm", ".pgm", ".png",
    ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
#: One of so many pictures is in the part `val`.
_FIFTH = 5
Fingerprint = Callable[[Mapping[str, Any], Path], str]


def files(folder: Path) -> list[str]:
    """The name of every file below a folder, relative to it, with forward slashes; in no order.

    Symbolic links are followed, but not to a folder that holds them; those that lead nowhere are
    left out, like named pipes and devices.
    """
    return [name for name, regular in _entries(folder) if regular]


def pictures(folder: Path) -> list[str]:
    """Names, relative to folder, of every picture below it, sorted; without hidden files, such as
    the `._*` that macOS writes beside each file.

    Raises DiagnosticError QS910 for one that is a link to nowhere, or no regular file.
    """
    return sorted(_pictures(folder))


def holds_pictures(folder: Path) -> bool:
    """Return whether there is a picture below a folder. Raises as `pictures` does."""
    return next(_pictures(folder), None) is not None


def _pictures(folder: Path) -> Iterator[str]:
    for name, regular in _entries(folder):
        if name.lower().endswith(PICTURES) and not name.rpartition("/")[2].startswith("."):
            if not regular:
                why = why_unreadable_file(folder / name) or "it is not a regular file"
                raise missing(folder / name, why, "restore it, or what it links to, or remove it")
            yield name


def _entries(
    folder: Path, prefix: str = "", above: frozenset[tuple[int, int]] | None = None
) -> Iterator[tuple[str, bool]]:
    """(name, is it a regular file) of all that is below a folder and is no folder.

    above: device and inode of the folders that hold this one; None where no link was followed.
    """
    try:
        status = folder.stat()
        identity = (status.st_dev, status.st_ino)
        if above is None:
            holding = [parent.stat() for parent in folder.resolve().parents]
            above = frozenset((parent.st_dev, parent.st_ino) for parent in holding)
        if identity in above:
            return
        with os.scandir(folder) as iterator:
            entries = list(iterator)
    except OSError as error:  # left out, its pictures would be missing silently
        raise missing(folder, why_unreadable(error), "correct its permissions") from error
    for entry in entries:
        name = f"{prefix}{entry.name}"
        try:
            is_folder, is_file = entry.is_dir(), entry.is_file()
        except OSError:  # a loop of links
            is_folder = is_file = False
        if is_folder:
            yield from _entries(folder / entry.name, f"{name}/", above | {identity})
        else:
            yield name, is_file


def lines(text: str) -> list[str]:
    """The lines of a text as editors number them, which `splitlines` also parts at other
    characters."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


def why_unreadable_file(path: Path) -> str | None:
    """Why a file cannot be read; None where it can."""
    try:
        open_file(path).close()
    except OSError as error:
        return why_unreadable(error)
    return None


def chosen_part(
    names: Iterable[str], params: Mapping[str, Any], *, groups: Iterable[Iterable[str]] = ()
) -> set[str]:
    """The names that `part` of the params chooses; all without it.

    val is about a fifth of them, by the hash of each name, so that a picture stays where it is when
    others come; train is the rest. Of two names and more, both parts have one at least. groups: the
    names by class, each of which is parted by itself.

    Raises DiagnosticError QS910 for a part of less than two pictures.
    """
    every, part = set(names), params.get("part")
    if part is None:
        return every
    if len(every) < 2:
        raise missing(
            Path(params["root"]),
            f"of {len(every)} pictures there is no part for validation",
            "add pictures: one at least is trained on, and another judges the training",
        )
    held = set[str]().union(*map(_held_out, groups)) or _held_out(every)
    return held if part == "val" else every - held


def _held_out(names: Iterable[str]) -> set[str]:
    ordered = sorted(set(names), key=_place)
    if len(ordered) < 2:
        return set()
    held = {name for name in ordered if _place(name)[0] % _FIFTH == 0} or {ordered[0]}
    return held if len(held) < len(ordered) else held - {ordered[-1]}


def _place(name: str) -> tuple[int, str]:
    return int(hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8], 16), name


def with_transforms(fingerprint: Fingerprint) -> Fingerprint:
    """A data set's fingerprint that also depends on the version of torchvision, where
    `augment.torchvision` names transforms of it. Raises DiagnosticError QS915 without it."""

    @functools.wraps(fingerprint)
    def versioned(params: Mapping[str, Any], base_dir: Path) -> str:
        digest_of_data = fingerprint(params, base_dir)
        if not params["augment"].get("torchvision"):
            return digest_of_data
        try:
            return content_digest({}, [digest_of_data, "torchvision", version("torchvision")])
        except PackageNotFoundError:
            raise codes.QS915.error(
                "`augment.torchvision` needs the package `torchvision`",
                help="pip install torchvision, of the release that fits the installed torch",
            ) from None

    return versioned


def made_up_digest(params: Mapping[str, Any]) -> str:
    """Of a made-up set (qatspec_vision.data.made_up): the same numbers draw the same pictures."""
    return content_digest({}, [params.get("split", ""), params["made_up"]])


def missing(path: Path, why: str, advice: str) -> DiagnosticError:
    """QS910 for a path of a data set; where it is not there, with the nearest name that is."""
    near = _nearest(path) if why.startswith("there is no such") else None
    return codes.QS910.error(
        f"data not found: {why}: `{path}`",
        help=f"did you mean `{near}`? {advice}" if near else advice,
        span=Span(file=str(path)),
    )


def _nearest(path: Path) -> Path | None:
    """The path with its first name that is not there replaced by the most similar one beside it."""
    for parent in reversed(path.parents):
        absent = parent / path.relative_to(parent).parts[0]
        if not os.path.lexists(absent):
            listed = parent.is_dir() and os.access(parent, os.R_OK)
            beside = sorted(entry.name for entry in parent.iterdir()) if listed else []
            close = difflib.get_close_matches(absent.name, beside, n=1)
            return parent / close[0] if close else None
    return None
