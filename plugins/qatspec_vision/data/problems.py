"""Problems of label files, collected so that one run reports several. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path, PurePosixPath

from qatspec.api import Diagnostic, DiagnosticError, Note, Span, codes

#: Faults that one error shows; the others are counted.
_SHOWN = 8


class Problems:
    """Faults (QS958) of a set's label files, each with its file and line."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []
        self._texts: dict[str, str] = {}
        self._count = 0

    def add(
        self, path: Path, line: int, message: str, help_: str, *, col: int = 1, text: str = ""
    ) -> None:
        """Note a fault. line, col: from 1; line 0 is the file as a whole. text: of the file."""
        self._count += 1
        if len(self._found) < _SHOWN:
            span = Span(str(path), line, col, line, col + 1) if line else Span(file=str(path))
            self._found.append(codes.QS958.diagnostic(message, help=help_, span=span))
            if text:
                self._texts[str(path)] = text

    def stop(self) -> None:
        """Raise DiagnosticError QS958 where there is a fault."""
        if not self._found:
            return
        more = self._count - len(self._found)
        if more:
            last = self._found[-1]
            self._found[-1] = replace(last, notes=(Note(f"and {more} more faults of labels"),))
        raise DiagnosticError(self._found, self._texts)


def omission_warning(count: int, first: str, path: Path, line: int) -> tuple[Diagnostic, ...]:
    """Return the warning QS913 that `count` annotations are omitted, the first of them at `path`;
    nothing where none is."""
    if not count:
        return ()
    return (
        codes.QS913.warning(
            f"{count} annotations are omitted, the first is {first}",
            help="correct or remove them; training and evaluation continue without them",
            span=Span(str(path), line, 1, line, 2),
        ),
    )


def shared(
    kind: str, names: Iterable[str], folder: Path, taken: str = "its labels are taken for each"
) -> tuple[Diagnostic, ...]:
    """The warning QS959 that pictures differ by their suffix alone, so that one file has the labels
    of them all. names: of the pictures; taken: what is done then, in words."""
    by_stem: dict[PurePosixPath, list[str]] = {}
    for name in names:
        by_stem.setdefault(PurePosixPath(name).with_suffix(""), []).append(name)
    several = [same for same in by_stem.values() if len(same) > 1]
    if not several:
        return ()
    of_first = " and ".join(f"`{name}`" for name in several[0])
    more = f" (and {len(several) - 1} more names)" if len(several) > 1 else ""
    return (
        codes.QS959.warning(
            f"{of_first}{more} have one {kind}: {taken}",
            help="remove the copies; give pictures that differ names and labels that differ",
            span=Span(file=str(folder)),
        ),
    )


def unpaired(kind: str, without: list[str], total: int, folder: Path) -> tuple[Diagnostic, ...]:
    """The warning QS959 that pictures have no label file. without: their names."""
    if not without:
        return ()
    return (
        codes.QS959.warning(
            f"{len(without)} of {total} pictures have no {kind}, the first is "
            f"`{without[0]}`: they are taken as pictures without an object",
            help=f"add the missing files, an empty {kind} where there is nothing to find",
            span=Span(file=str(folder)),
        ),
    )
