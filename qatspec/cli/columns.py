"""Tables for a terminal: names are never cut, and columns that say nothing are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.text import Text

from qatspec.render import WORD, wrap

_GAP = "  "
_NARROWEST = 20
#: Columns that a text beside other cells gets at least; in fewer, it stands below them.
_BESIDE = 40


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    right  its cells are figures, which stand to the right.
    usual  a cell that says nothing: it is left out, and so is the column that has only such cells
           and empty ones.
    title  it stands in the first line of a row that needs two.
    """

    name: str
    right: bool = False
    usual: str = ""
    title: bool = False


def print_columns(console: Console, head: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table with a bold head, as wide as the console; see `lines`."""
    first, *rest = lines(head, rows, console.width)
    for line in first:
        console.print(Text(line, style="bold"), soft_wrap=True)
    for row in rest:
        for line in row:
            console.print(line, soft_wrap=True, highlight=False)


def lines(head: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> list[list[str]]:
    """The lines of the head and of each row.

    A row is one line where all fit into `width`, or all but the text of the last column, which is
    then wrapped between words in its column. Otherwise the titles stand in a line of their own, and
    the other cells below, whose last column is wrapped in the same way. No cell is cut.
    """
    kept = [
        i for i, column in enumerate(head)
        if column.title or not rows or any(row[i] not in ("", column.usual) for row in rows)
    ]  # fmt: skip
    cells = [[head[i].name for i in kept]]
    cells += [["" if row[i] == head[i].usual else row[i] for i in kept] for row in rows]
    layout = _Layout([head[i] for i in kept], cells, width)
    return [layout.row(row) for row in cells]


class _Layout:
    """How the rows of a table are laid out in `width` columns of a terminal."""

    def __init__(self, head: Sequence[Column], cells: Sequence[Sequence[str]], width: int) -> None:
        self._head, self._width = head, width
        self._sizes = [max(len(row[i]) for row in cells) for i in range(len(head))]
        self._titles = [i for i, column in enumerate(head) if column.title]
        self._others = [i for i, column in enumerate(head) if not column.title]
        self._text = self._start_of_text(cells)

    def row(self, row: Sequence[str]) -> list[str]:
        """The lines of one row."""
        every = range(len(row))
        if self._size(every) <= self._width:
            return [self._joined(row, every)]
        if self._text is not None:
            front = self._joined(row, every[:-1]).ljust(self._text)
            first, *more = self._wrapped(row[-1], self._text) or [""]
            return [(front + first.lstrip()).rstrip(), *more]
        return [*self._title(row), *self._below(row)]

    def _start_of_text(self, cells: Sequence[Sequence[str]]) -> int | None:
        """Where the last column begins if it is a text that can be wrapped beside the others."""
        last = len(self._head) - 1
        if last < 1 or self._head[last].right or self._head[last].title:
            return None
        start = self._size(range(last)) + len(_GAP)
        longest = max((len(word) for row in cells for word in WORD.findall(row[last])), default=0)
        return start if self._width - start >= max(longest, _BESIDE) else None

    def _size(self, which: Sequence[int]) -> int:
        return sum(self._sizes[i] for i in which) + len(_GAP) * (len(which) - 1)

    def _joined(self, row: Sequence[str], which: Sequence[int]) -> str:
        cells = (
            row[i].rjust(self._sizes[i]) if self._head[i].right else row[i].ljust(self._sizes[i])
            for i in which
        )
        return _GAP.join(cells).rstrip()

    def _title(self, row: Sequence[str]) -> list[str]:
        """The titles in one line, or in a line each where they are longer than that."""
        if self._size(self._titles) <= self._width:
            return [self._joined(row, self._titles)]
        return [row[i] for i in self._titles if row[i]]

    def _below(self, row: Sequence[str]) -> list[str]:
        """The other cells, indented; the last is wrapped where it is a text that does not fit."""
        if not self._others:
            return []
        *firsts, last = self._others
        if self._head[last].right or len(_GAP) + self._size(self._others) <= self._width:
            return [(_GAP + self._joined(row, self._others)).rstrip()]
        front = _GAP + self._joined(row, firsts)
        start = 2 * len(_GAP) + self._size(firsts) if firsts else len(_GAP)
        above: list[str] = []
        if self._width - start < _NARROWEST:  # the text goes below the other cells
            above, front, start = self._wrapped(front, len(_GAP)), "", 2 * len(_GAP)
        first, *more = self._wrapped(row[last], start) or [""]
        words = [front.ljust(start) + first.lstrip(), *more]
        return [line.rstrip() for line in (*above, *words) if line.strip()]

    def _wrapped(self, text: str, indent: int) -> list[str]:
        """Lines between words, each behind an indent; a word is never broken."""
        width = max(self._width, indent + _NARROWEST)
        return wrap(text.strip(), width, first=" " * indent, rest=" " * indent)
