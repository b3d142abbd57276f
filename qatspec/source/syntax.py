"""What breaks YAML's grammar, in the words of the mistake that a person made."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

#: `key: value`, with a `- ` before it perhaps.
_ENTRY = re.compile(r"(\s*(?:- +)?)([\w.\"'-]+):\s+(\S.*)")
_KEY = re.compile(r"[\s-]*[\w.]+")
#: A key whose colon, or the space behind it, is missing.
_NO_COLON = re.compile(r"(\s*(?:- +)?)([A-Za-z_][\w.-]*)\s*(?:=|\uff1a|:|\s)\s*(\S.*)")
#: A key alone, without its colon.
_BARE = re.compile(r"(\s*(?:- +)?)([A-Za-z_][\w.-]*)\s*")
_REFERENCE = re.compile(r"(?<![\"'$])\$\{[^}$]{0,200}\}+")
_CLOSING = {"'}'": "}", "']'": "]"}


@dataclass(frozen=True, slots=True)
class Mistake:
    """row, column: its place, from 0; length: of the marked text; corrected: the text to write
    instead of the marked text, None where only the user can decide."""

    message: str
    help: str
    row: int
    column: int
    length: int = 1
    corrected: str | None = None


def mistake(
    problem: str, lines: Sequence[str], row: int, column: int, opened: tuple[int, int] | None
) -> Mistake:
    """libyaml's `problem` at lines[row][column] as a mistake to correct, with the text to write.

    opened: where what the parser was reading begins.
    """
    line = lines[row] if row < len(lines) else ""
    if closing := next((c for words, c in _CLOSING.items() if words in problem), None):
        return _in_brackets(closing, lines, row, column, opened)
    if "mapping values are not allowed" in problem:
        if _KEY.fullmatch(line[:column]):
            return _indented(lines, row) or _colonless(lines, row) or _general(problem, row, column)
        return _colon_in_text(line, row, column)
    if "expected ':'" in problem and opened:
        slip = _missing_colon(lines, opened[0])
        return slip or _general(problem, *opened)
    if "expected '-' indicator" in problem and opened:
        return _beside_a_list(lines, row, opened[0])
    if "end of stream" in problem and opened:
        return _open_quote(lines[opened[0]], *opened)
    if "expected key" in problem:
        above = _above(lines, row)
        if above and _BARE.fullmatch(_without_comment(above)):
            return _colonless(lines, row) or _general(problem, row, column)
        return _after_value(lines, row, column) or _general(problem, row, column)
    if "cannot start any token" in problem or "alphabetic or numeric" in problem:
        start = column if "cannot start" in problem else column - 1
        return _special(line, row, start)
    if "unknown escape" in problem:
        text = re.search(r'"([^"]*)"', line[opened[1] :]) if opened and opened[0] == row else None
        return Mistake(
            f"`{line[column : column + 2]}` means nothing inside double quotes",
            f"write it in single quotes, which keep backslashes: `'{text[1] if text else '...'}'`",
            row, column, 2,
        )  # fmt: skip
    if "block sequence entries" in problem:
        value = line[column:].removeprefix("-").strip()
        return Mistake(
            "a list item cannot stand behind a key on the same line",
            f"write `{line[:column].strip()} [{value}]`, or put `- {value}` on a line of its own",
            row, column,
        )  # fmt: skip
    return _general(problem, row, column)


def closest_lines(lines: Sequence[str], row: int) -> list[str]:
    """How the line at `row` may be indented, the likeliest first: below the key right above it, or
    beside one of the keys around it."""
    text = lines[row].strip()
    keys: dict[int, str] = {}
    parent = False
    for above in lines[:row]:
        if above.strip() and not above.lstrip().startswith("#"):
            level = len(above) - len(above.lstrip())
            keys = {**{k: v for k, v in keys.items() if k < level}, level: above.strip()}
            parent = above.rstrip().endswith(":")
    if parent:
        return [f"`{' ' * (max(keys) + 2)}{text}`"]
    width = len(lines[row].expandtabs(2)) - len(lines[row].lstrip())
    near = [k for k in keys if k > width][:1] + [k for k in keys if k < width][-1:]
    return [f"`{' ' * k}{text}` (beside `{keys[k].partition(':')[0]}`)" for k in near]


def _in_brackets(
    closing: str, lines: Sequence[str], row: int, column: int, opened: tuple[int, int] | None
) -> Mistake:
    line = lines[row] if row < len(lines) else ""
    if reference := _REFERENCE.search(line):
        name = reference.group().rstrip("}") + "}"
        message = "inside `{...}` and `[...]` a reference needs quotes"
        quoted = f'"{name}"'
        return Mistake(message, f"write `{quoted}`", row, reference.start(), len(name), quoted)
    opening = "{" if closing == "}" else "["
    if opened and opened[0] != row:
        first, *comment = re.split(r"(\s+#.*)", lines[opened[0]].strip(), maxsplit=1)
        corrected = f"{first.rstrip(', ')}{closing}"
        advice = f"write `{closing}` where its content ends, for example `{corrected}`"
        if comment and closing in comment[0]:
            advice = f"what follows ` #` is a comment: write `{corrected}`, or remove the `#`"
        return Mistake(f"the `{opening}` is never closed", advice, *opened)
    if line[column : column + 1] in ("}", "]"):
        corrected = f"{line[:column]}{closing}{line[column:]}".strip()
        message = f"`{line[column]}` closes a bracket that `{opening}` opened"
        return Mistake(message, f"write `{closing}` before it: `{corrected}`", row, column)
    before = re.split(r"[,{\[]", line[:column])[-1]
    if line[column : column + 1] == ":" and len(before.partition(": ")[2].split()) == 1:
        key, _, start = before.strip().partition(": ")
        rest = re.split(r"[,}\]]", line[column:])[0].rstrip()
        message = "a text with a colon in it needs quotes"
        return Mistake(message, f"write `{key}: {json.dumps(start + rest)}`", row, column)
    start = len(line[:column].rstrip()) if line[column : column + 1] == ":" else column
    start = 1 + max(line.rfind(char, 0, start) for char in " \t,{[]}")
    word = re.split(r"[\s:,}\]]", line[start:])[0]
    corrected = f"{line[:start].rstrip()}, {line[start:]}".strip()
    return Mistake(f"a comma is missing before `{word}`", f"write `{corrected}`", row, start)


def _indented(lines: Sequence[str], row: int) -> Mistake | None:
    """A line that is indented deeper than the finished `key: value` above it."""
    line, above = lines[row], _above(lines, row)
    width = len(line) - len(line.lstrip())
    if above is None or not _ENTRY.fullmatch(above) or len(above) - len(above.lstrip()) >= width:
        return None
    level = len(above) - len(above.lstrip())
    name = above.strip().partition(":")[0]
    return Mistake(
        f"indented by {width} spaces, below `{name}`, which has a value already",
        f"indent it by {level}, exactly like `{name}`: `{' ' * level}{line.strip()}`",
        row, 0, width,
    )  # fmt: skip


def _colonless(lines: Sequence[str], row: int) -> Mistake | None:
    """The line above is a key without its colon."""
    numbers = (i for i in range(row - 1, -1, -1) if _without_comment(lines[i]).strip())
    number = next(numbers, None)
    return None if number is None else _missing_colon(lines, number)


def _missing_colon(lines: Sequence[str], row: int) -> Mistake | None:
    """The line at `row` is a key without its colon, with its value or alone."""
    line = lines[row]
    if match := _BARE.fullmatch(_without_comment(line)):
        indent, key = match.groups()
        deeper = _indent_below(lines, row) > len(indent)
        advice = (
            f"write `{key}:`" if deeper else f"write `{key}:` and its value, or delete the line"
        )
        return Mistake(
            f"`{key}` needs a colon behind it; it is missing",
            advice,
            row, len(indent), len(key), f"{key}:" if deeper else None,
        )  # fmt: skip
    match = _NO_COLON.fullmatch(line)
    if match is None:
        return None
    indent, key, value = match.groups()
    between = line[len(indent) + len(key) : len(line) - len(value)].strip()
    what = f"it has `{between}` in its place" if between else "it is missing"
    if between == ":":
        what = "the space is missing"
    corrected = f"{key}: {value.strip()}"
    return Mistake(
        f"`{key}` needs a colon and a space behind it; {what}",
        f"write `{corrected}`",
        row, len(indent), len(line) - len(indent), corrected if between else None,
    )  # fmt: skip


def _without_comment(line: str) -> str:
    return re.split(r"(?:^|\s)#", line)[0]


def _indent_below(lines: Sequence[str], row: int) -> int:
    """The indentation of the next line that is neither empty nor a comment; -1 at the end."""
    for line in lines[row + 1 :]:
        if line.strip() and not line.lstrip().startswith("#"):
            return len(line) - len(line.lstrip())
    return -1


def _beside_a_list(lines: Sequence[str], row: int, first: int) -> Mistake:
    """A line without `- ` among the entries of the list that begins at line `first`."""
    line, item = lines[row], lines[first].strip()
    written = f"`- {line.strip()}`"
    advice = f"write {written}, or, if this is no list, line {first + 1} without its `-`"
    message = f"a list begins in line {first + 1}, `{item}`, and this line is no entry of it"
    column = len(line) - len(line.lstrip())
    return Mistake(message, advice, row, column, max(1, len(line.strip())))


def _colon_in_text(line: str, row: int, column: int) -> Mistake:
    message = "a text with a colon in it needs quotes"
    entry = _ENTRY.fullmatch(line)
    if entry is None:
        return Mistake(message, "put quotes around the text", row, column)
    value = re.split(r"\s#", entry.group(3))[0].rstrip()
    quoted = json.dumps(value, ensure_ascii=False)
    sure = quoted if value[0].isalnum() else None
    return Mistake(
        message, f"write `{entry.group(2)}: {quoted}`", row, entry.start(3), len(value), sure
    )


def _open_quote(line: str, row: int, column: int) -> Mistake:
    quote = line[column]
    return Mistake(
        f"the quote `{quote}` is never closed",
        f"close it at the end of the text: `{line.strip()}{quote}`",
        row, column,
    )  # fmt: skip


def _after_value(lines: Sequence[str], row: int, column: int) -> Mistake | None:
    """The mistake of text in front of the next key."""
    line = lines[row]
    char = line[column : column + 1]
    if char and char in "}]":
        corrected = f"{line[:column]}{line[column + 1 :]}".strip()
        message = f"`{char}` closes a bracket that nothing opened"
        return Mistake(message, f"delete it: `{corrected}`", row, column)
    if _KEY.match(line[column:]) and not line[:column].strip():
        written = " or ".join(closest_lines(lines, row))
        message = f"indented by {column} spaces, unlike every key around it"
        return Mistake(message, f"indent it exactly like its siblings: {written}", row, 0, column)
    for number, text in enumerate(map(_without_comment, lines[:row])):
        for quote in "\"'":
            if text.count(quote) % 2:
                return _open_quote(text, number, text.rindex(quote))
    entry = _ENTRY.fullmatch(line)
    if entry is None:
        return None
    value = re.sub("[\"']", "", entry.group(3))
    message = "text behind a closing quote"
    return Mistake(message, f"write `{entry.group(2)}: {json.dumps(value)}`", row, column)


def _special(line: str, row: int, column: int) -> Mistake:
    char = line[column : column + 1]
    value = re.split(r"\s#|[,}\]]", line[column:])[0].strip()
    return Mistake(
        f"a text cannot begin with `{char}` without quotes",
        f"write `{json.dumps(value)}`",
        row, column, max(1, len(value)),
    )  # fmt: skip


def _general(problem: str, row: int, column: int) -> Mistake:
    advice = "check quotes, brackets, colons and indentation here and on the line above"
    return Mistake(f"not valid YAML: {problem}", advice, row, column)


def _above(lines: Sequence[str], row: int) -> str | None:
    """The nearest line above that is neither empty nor a comment."""
    texts = (line for line in reversed(lines[:row]) if line.strip())
    return next((line for line in texts if not line.lstrip().startswith("#")), None)
