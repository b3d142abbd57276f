"""Regular expressions of rules: refused when they may take time beyond measure.

Python's `re` backtracks. The patterns below are those whose backtracking is bounded by a small
power of the length of a module's name.
"""

from __future__ import annotations

import re
import sys
import warnings
from typing import Any

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS310, QS311

if sys.version_info >= (3, 11):
    from re import (
        _constants as constants,  # type: ignore[attr-defined]
        _parser as parser,  # type: ignore[attr-defined]
    )
else:  # pragma: no cover
    import sre_constants as constants
    import sre_parse as parser

_MAX_LENGTH = 1000
_MAX_UNBOUNDED = 3
_MANY = 32
_INVALID = (re.error, OverflowError, RecursionError, Warning)
_REPEATS = (constants.MAX_REPEAT, constants.MIN_REPEAT)


def check_regex(pattern: str, at: str) -> None:
    """Raises DiagnosticError QS310 for an invalid pattern, QS311 for a hostile one."""
    if len(pattern) > _MAX_LENGTH:
        raise _hostile(pattern, f"it is longer than {_MAX_LENGTH} characters", at)
    try:
        tree = _parsed(pattern)
    except _INVALID as error:
        raise QS310.error(
            f"`{pattern}` is not a regular expression: {error}",
            help=_written(_repaired(pattern, getattr(error, "pos", None))),
            at=at,
            key=True,
        ) from None
    if reason := _danger(tree):
        raise _hostile(pattern, reason, at)


def literal_prefix(pattern: str) -> str:
    """The text that whatever the pattern matches begins with; "" where nothing can be said."""
    tree: Any = parser.parse(pattern)
    if tree.state.flags & re.IGNORECASE:
        return ""
    prefix = ""
    for op, argument in tree:
        if op is constants.LITERAL:
            prefix += chr(argument)
        elif (op, argument) != (constants.AT, constants.AT_BEGINNING):
            break
    return prefix


def _danger(tree: Any) -> str | None:
    unbounded = 0
    stack: list[tuple[Any, bool]] = [(tree, False)]
    while stack:
        sequence, repeated = stack.pop()
        for op, argument in sequence:
            if op in _REPEATS:
                low, high, body = argument
                many = high > _MANY
                if repeated and low != high:
                    return "a repeat stands inside a repeat"
                unbounded += many
                stack.append((body, repeated or high > 1))
            elif op is constants.BRANCH:
                alternatives = argument[1]
                if repeated and not _distinct(alternatives):
                    return "repeated alternatives may begin alike"
                stack.extend((a, repeated) for a in alternatives)
            elif op is constants.GROUPREF:
                return "it refers back to a group"
            else:
                stack.extend((part, repeated) for part in _bodies(op, argument))
    if unbounded > _MAX_UNBOUNDED:
        return f"it has more than {_MAX_UNBOUNDED} unbounded repeats"
    return None


def _bodies(op: Any, argument: Any) -> list[Any]:
    if op is constants.SUBPATTERN:
        return [argument[3]]
    if op in (constants.ASSERT, constants.ASSERT_NOT):
        return [argument[1]]
    if op is constants.GROUPREF_EXISTS:
        return [part for part in argument[1:] if part is not None]
    if str(op) == "ATOMIC_GROUP":
        return [argument]
    if str(op) == "POSSESSIVE_REPEAT":
        return [argument[2]]
    return []


def _distinct(alternatives: Any) -> bool:
    """Return whether the alternatives differ in their first character."""
    first: set[int] = set()
    for alternative in alternatives:
        if not len(alternative) or alternative[0][0] is not constants.LITERAL:
            return False
        first.add(alternative[0][1])
    return len(first) == len(alternatives)


def _hostile(pattern: str, reason: str, at: str) -> DiagnosticError:
    return QS311.error(
        f"`{pattern[:80]}` may take time without bound: {reason}",
        help=_written(_flattened(pattern)),
        at=at,
        key=True,
    )


def _written(pattern: str | None) -> str:
    """What to write instead; None: nothing can be said of this pattern."""
    if pattern is None:
        return "write a simpler one, such as `'head\\.convs\\.[0-9]+'`: `.*` stands for anything"
    quoted = pattern.replace("'", "''")
    return f"write for example `'{quoted}'`; `.*` stands for anything, `\\.` for a dot"


def _repaired(pattern: str, at: int | None) -> str | None:
    """The nearest valid pattern: a bracket closed, `*` as in file names, a character escaped."""
    globbed = re.sub(r"\*{2,}", ".*", re.sub(r"(^|[(|])\*+", r"\1.*", pattern))
    tried = [pattern + "]"] if "[" in pattern else []
    tried += [pattern + ")", globbed]
    if at is not None:
        tried += [pattern[:at] + pattern[at + 1 :], pattern[:at] + "\\" + pattern[at:]]
    tried = [candidate for candidate in tried if candidate and candidate != pattern]
    return next((candidate for candidate in tried if _usable(candidate)), None)


def _flattened(pattern: str) -> str | None:
    """The pattern with `.*` in place of each repeated group: it matches all that it matched."""
    opened: list[int] = []
    groups: list[tuple[int, int]] = []
    for token in re.finditer(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|[()]", pattern):
        if token[0] == "(":
            opened.append(token.start())
        elif token[0] == ")" and opened:
            start = opened.pop()
            repeat = re.match(r"(?:[*+]|\{[\d,]*\})[?+]?", pattern[token.end() :])
            if repeat:
                groups = [g for g in groups if g[0] < start]
                groups.append((start, token.end() + repeat.end()))
    for start, end in reversed(groups):
        pattern = pattern[:start] + ".*" + pattern[end:]
    shorter = re.sub(r"(?:\.\*){2,}", ".*", pattern)
    return shorter if groups and _usable(shorter) else None


def _usable(pattern: str) -> bool:
    try:
        return len(pattern) <= _MAX_LENGTH and _danger(_parsed(pattern)) is None
    except _INVALID:
        return False


def _parsed(pattern: str) -> Any:
    """The parsed pattern. Raises one of _INVALID."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tree = parser.parse(pattern)
        re.compile(pattern)
    return tree
