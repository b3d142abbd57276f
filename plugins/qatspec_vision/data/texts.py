"""Text files of data sets, in the encodings that other programs write, and names that nearly match.
Standard library only."""

from __future__ import annotations

import codecs
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from qatspec.api import read_file
from qatspec_vision.data.files import PICTURES
from qatspec_vision.data.problems import Problems

#: Marks at the beginning of a text that name its encoding. Windows writes UTF-16 ("Unicode text").
_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
SAVE_AS_UTF8 = "save it as UTF-8 (a spreadsheet calls that form `CSV UTF-8`)"


def decoded(data: bytes, errors: str = "replace") -> str:
    """The text of a file: UTF-8, or what its mark names. errors: as of `bytes.decode`."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, errors)
    return data.decode("utf-8", errors)


def read_text(path: Path, max_bytes: int) -> str:
    """A text whose words are used, such as names of classes: no character of it is replaced.

    Raises OSError, and DiagnosticError QS958 with the line for a text in another encoding."""
    data = read_file(path, max_bytes)
    try:
        return decoded(data, "strict")
    except UnicodeDecodeError as error:
        problems = Problems()
        line = 1 + error.object.count(b"\n", 0, error.start)
        byte = error.object[error.start]
        why = f"it is not UTF-8 text: line {line} holds the byte 0x{byte:02X}"
        problems.add(path, line, why, SAVE_AS_UTF8)
        problems.stop()
        raise AssertionError from error  # stop() has raised


def tails(path: str) -> Iterator[str]:
    """A path, and what is left of it without its first folders, with forward slashes."""
    yield path
    parts = PurePosixPath(path.replace("\\", "/")).parts
    yield from ("/".join(parts[at:]) for at in range(1 if parts[:1] == ("/",) else 0, len(parts)))


def restoring(name: str, present: Iterable[str], otherwise: str) -> str:
    """What to do about a picture that is named and is not there, in words.

    name: with forward slashes; present: the files that are there; otherwise: the advice where none
    of them has the name with another suffix, or in other letters."""
    wanted = _comparable(name)
    near = next((other for other in present if _comparable(other) == wanted), None)
    if near is None:
        return otherwise
    wanted_name = PurePosixPath(name)
    expected = wanted_name.name if wanted_name.suffix else f"{wanted_name.name}.jpg"
    verb = "rename" if near.lower().endswith(PICTURES) else "save"
    return f"`{near}` is there: {verb} it as `{expected}`, or {otherwise}"


def _comparable(name: str) -> str:
    """A path without its suffix, in lower case, with composed characters (macOS parts them)."""
    return unicodedata.normalize("NFC", str(PurePosixPath(name).with_suffix(""))).casefold()
