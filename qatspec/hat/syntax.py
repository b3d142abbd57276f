"""The syntax tree of a config, also of one that Python itself refuses.

Configs are often pasted together from the community tutorial, whose dictionaries lack commas,
colons and quotes: `(Conv2d, BatchNorm2d) fuse_conv_bn`, `(foo.bar.conv[0-9]+, qconfig)`.
"""

from __future__ import annotations

import ast
import keyword
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS970, QS972
from qatspec.files import read_file

_LIMIT = 2 << 20
#: Longest element that is taken for a regular expression without quotes.
_LONGEST_PATTERN = 200
_TOKEN = re.compile(
    r"""
    (?P<string>[rbuf]{0,2}(?:\"{3}(?:\\.|[^\\])*?\"{3}|'{3}(?:\\.|[^\\])*?'{3}
        |"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
    |(?P<comment>\#[^\n]*)
    |(?P<space>(?:\s|\\\n)+)
    |(?P<dots>\.\.\.)
    |(?P<name>\w(?:[\w.]*\w)?)
    |(?P<op>.)
    """,
    re.VERBOSE | re.DOTALL | re.IGNORECASE,
)
_KEYWORDS = frozenset(keyword.kwlist) - {"None", "True", "False"}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def ends_a_value(self) -> bool:
        return self.text in (")", "]", "}") or self._is_value

    @property
    def starts_a_value(self) -> bool:
        return self.text == "{" or self._is_value

    @property
    def _is_value(self) -> bool:
        return self.kind in ("string", "dots") or (
            self.kind == "name" and self.text not in _KEYWORDS
        )


@dataclass(slots=True)
class _Bracket:
    """An open bracket. start: where its current element starts; key: that element has a colon."""

    text: str
    start: int
    key: bool = False


@dataclass(frozen=True, slots=True)
class _Repair:
    start: int
    end: int
    text: str
    message: str


def parse(path: Path) -> tuple[ast.Module, str, list[Diagnostic]]:
    """Return the syntax tree of a config, its text, and a warning for each corrected place.

    Raises DiagnosticError QS970 where it is no Python, corrected or not; QS947 where the file
    cannot be read.
    """
    text = textwrap.dedent(read_file(path, limit=_LIMIT).decode("utf-8", errors="replace"))
    try:
        return _tree(text), text, []
    except SyntaxError:
        repairs = list(_repairs(text))
    corrected = text
    for repair in sorted(repairs, key=lambda r: r.start, reverse=True):
        corrected = corrected[: repair.start] + repair.text + corrected[repair.end :]
    try:
        tree = _tree(corrected)
    except SyntaxError as error:
        line = error.lineno or 1
        col = error.offset or 1
        raise DiagnosticError(
            QS970.diagnostic(
                f"`{path}` is not Python: {error.msg}",
                help="correct the line, or cut the file down to the dictionaries that are to be "
                "imported",
                span=Span(str(path), line, col, line, col + 1),
            ),
            {str(path): text},
        ) from None
    return tree, text, [_warning(path, text, repair) for repair in repairs]


def _tree(text: str) -> ast.Module:
    """Raises SyntaxError, also for what is nested deeper than Python's parser goes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as "perhaps you missed a comma"
            return ast.parse(text)
    except (RecursionError, MemoryError, ValueError) as error:
        raise SyntaxError(str(error) or "nested too deeply") from None


def _tokens(text: str) -> Iterator[_Token]:
    for match in _TOKEN.finditer(text):
        if match.lastgroup not in ("space", "comment"):
            yield _Token(str(match.lastgroup), match[0], match.start())


def _repairs(text: str) -> Iterator[_Repair]:
    """Commas, colons and quotes that are missing between brackets."""
    brackets: list[_Bracket] = []
    last = _Token("op", "", 0)
    for token in _tokens(text):
        inner = brackets[-1] if brackets else None
        if inner is not None and _is_gap(last, token):
            colon = inner.text == "{" and not inner.key and last.kind != "dots"
            mark = ":" if colon else ","
            yield _Repair(last.end, last.end, mark, f"a {'colon' if colon else 'comma'} is missing")
            inner.key = colon
            if not colon:
                inner.start = token.start
        if inner is not None and token.text in (",", _CLOSING[inner.text]):
            yield from _unquoted(text, inner, last)
            inner.start, inner.key = token.end, False
        if token.text in _CLOSING:
            brackets.append(_Bracket(token.text, token.end))
        elif inner is not None and token.text == _CLOSING[inner.text]:
            brackets.pop()
        elif inner is not None and token.text == ":":
            inner.key = True
        last = token


def _is_gap(last: _Token, token: _Token) -> bool:
    """Return whether two values follow each other with nothing between them."""
    both_strings = last.kind == token.kind == "string"  # Python joins them
    return last.ends_a_value and token.starts_a_value and not both_strings


def _unquoted(text: str, bracket: _Bracket, last: _Token) -> Iterator[_Repair]:
    """An element of a tuple or list that is a regular expression without quotes."""
    if last.end - bracket.start > _LONGEST_PATTERN:
        return
    element = text[bracket.start : last.end].lstrip()
    start = last.end - len(element)
    if bracket.text == "{" or not element or re.search(r"[\n{\"'#=]|\bfor\b", element):
        return
    try:
        ast.parse(f"f({element})")
    except SyntaxError:
        yield _Repair(start, last.end, repr(element), f"`{element}` has no quotes")


def _warning(path: Path, text: str, repair: _Repair) -> Diagnostic:
    line = text.count("\n", 0, repair.start) + 1
    col = repair.start - (text.rfind("\n", 0, repair.start) + 1) + 1
    width = max(repair.end - repair.start, 1)
    return QS972.warning(
        f"{repair.message}; it was read as if it were there"
        if repair.start == repair.end
        else f"{repair.message}; it was read as a text",
        help=f"write `{repair.text}` here if the config is to run in HAT",
        span=Span(str(path), line, col, line, col + width),
    )
