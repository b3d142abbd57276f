"""YAML text to a Tree: libyaml's events, composed here so that depth, size, aliases, keys and
scalars follow the rules of specs and every value keeps its place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from qatspec.diag import Code, Diagnostic, DiagnosticError, Edit, Fix, Note, Span
from qatspec.diag.codes import QS102, QS103, QS105, QS107, QS108, QS110, QS113
from qatspec.diag.words import suggest
from qatspec.source import scalars
from qatspec.source.refused import REPLACE, instead_of_merge, instead_of_tag
from qatspec.source.syntax import closest_lines, mistake
from qatspec.source.text import split_lines
from qatspec.source.tree import MAX_DEPTH, MAX_VALUES, Tree, size_of

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR = "tag:yaml.org,2002:str"
#: The file that overrides are said to stand in, one a line.
COMMAND_LINE = "--set"
#: A line that is longer than this is not written out a second time.
_LONGEST = 300


def parse(text: str, file: str, *, line: int = 1, col: int = 1) -> Tree | None:
    """The value of one YAML document, None for an empty one.

    line, col: where `text` begins in `file` (an override's value stands behind its path).
    Raises DiagnosticError with everything found: QS102, QS103, QS105, QS107, QS108, QS110, QS113.
    """
    composer = _Composer(text, file, line, col)
    tree = composer.document()
    if composer.diagnostics:
        raise DiagnosticError(composer.diagnostics)
    return tree


class _Composer:
    def __init__(self, text: str, file: str, line: int, col: int) -> None:
        self.text, self.file, self.line, self.col = text, file, line, col
        self.diagnostics: list[Diagnostic] = []
        self._anchors: dict[str, Tree] = {}
        self._open: set[str] = set()
        self._path: list[str] = []
        self._count = 0
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)

    def document(self) -> Tree | None:
        event = self._next()
        while not isinstance(event, yaml.DocumentStartEvent):
            if isinstance(event, yaml.StreamEndEvent):
                return None
            event = self._next()
        tree = self._node(self._next(), 0)
        self._next()  # document end
        extra = self._next()
        if not isinstance(extra, yaml.StreamEndEvent):
            help_ = "delete this line and all below it, or move that to a file of its own"
            self._fail(QS110, "a second document in one file", self._span(extra), help_)
        return tree

    def _node(self, event: Any, depth: int) -> Tree:
        self._count += 1
        if self._count > MAX_VALUES:
            self._checked_size([Tree(None, self._span(event), size=MAX_VALUES)], self._span(event))
        if depth > MAX_DEPTH:
            raise self._too_deep(self._span(event))
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if event.anchor:
            self._open.add(event.anchor)
        if isinstance(event, yaml.ScalarEvent):
            tree = self._scalar(event)
        elif isinstance(event, yaml.MappingStartEvent):
            tree = self._mapping(event, depth)
        else:
            tree = self._sequence(event, depth)
        if event.anchor:
            self._open.discard(event.anchor)
            self._anchors[event.anchor] = tree
        return tree

    def _alias(self, event: Any) -> Tree:
        span = self._span(event)
        if event.anchor in self._open:
            message = f"alias `*{event.anchor}` stands inside the value that it repeats"
            key = self._path[-1] if self._path else "key"
            help_ = f"write a value in place of `*{event.anchor}`, such as `{key}: 1`"
            raise self._stop(QS107, message, span, help_)
        tree = self._anchors.get(event.anchor)
        if tree is None:
            message = f"alias `*{event.anchor}` repeats the value marked `&{event.anchor}`, and no "
            message += "value above it is marked so"
            meant = suggest(f"*{event.anchor}", [f"*{name}" for name in self._anchors])
            help_ = f"{meant} " if meant else ""
            help_ += f"mark the value with `&{event.anchor}` above this line; a text that begins "
            help_ += f'with `*` needs quotes: `"*{event.anchor}"`'
            raise self._stop(QS102, message, span, help_)
        return replace(tree, span=span, origin=tree.origin or tree.span)

    def _scalar(self, event: Any) -> Tree:
        span = self._span(event)
        plain = event.implicit[0]
        if event.tag not in (None, "!", _STR):
            self._tag(event.tag, span)
        if not plain or event.tag:
            return Tree(event.value, span, text=event.value)
        try:
            return Tree(scalars.resolve(event.value), span, text=event.value)
        except OverflowError:
            self._fail(
                QS113,
                f"`{_short(event.value)}` is not a finite number",
                span,
                "write a finite number, such as `0.01`, or put quotes around it if it is a text",
            )
            return Tree(0, span, text=event.value)

    def _mapping(self, event: Any, depth: int) -> Tree:
        start = self._span(event)
        items: dict[str, Tree] = {}
        end = start
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                message = "a key is a plain text, not a list, a mapping or an alias"
                help_ = "put quotes around a key that begins with `{`, `[` or `*`"
                raise self._stop(QS110, message, self._span(key), help_)
            key_span = self._span(key)
            merges = key.value == "<<" and key.implicit[0]
            self._path.append(key.value)
            value = self._node(self._next(), depth + 1)
            self._path.pop()
            end = value.span
            if merges:
                message = "merge key `<<` is not part of YAML 1.2"
                self._fail(QS110, message, key_span, instead_of_merge(value))
            if key.value in items:
                first = items[key.value].key or start
                self._fail(
                    QS103,
                    f"key `{_short(key.value)}` stands twice in this mapping",
                    key_span,
                    f"delete one of the two, in line {first.line} or in line {key_span.line}",
                    notes=(Note("first here", span=first),),
                )
            items[key.value] = replace(value, key=key_span)
        return self._collection(event, items, start, self._end(event, key, end))

    def _sequence(self, event: Any, depth: int) -> Tree:
        start = self._span(event)
        items: list[Tree] = []
        end = start
        while not isinstance(item := self._next(), yaml.SequenceEndEvent):
            items.append(self._node(item, depth + 1))
            end = items[-1].span
        return self._collection(event, items, start, self._end(event, item, end))

    def _collection(
        self, event: Any, items: dict[str, Tree] | list[Tree], start: Span, end: Span
    ) -> Tree:
        if event.tag not in (None, "!", REPLACE):
            self._tag(event.tag, start)
        span = Span(self.file, start.line, start.col, end.end_line, end.end_col)
        size = self._checked_size(items, span)
        return Tree(items, span, replace=event.tag == REPLACE, size=size)

    def _checked_size(self, items: dict[str, Tree] | list[Tree], span: Span) -> int:
        """Return the number of values in a collection, which is the value of the innermost open
        key. Raises DiagnosticError where it is too large."""
        try:
            return size_of(items, span)
        except DiagnosticError:
            raise self._too_large(span) from None

    def _too_large(self, span: Span) -> DiagnosticError:
        what = f"`{'.'.join(self._path)}`" if self._path else "the file"
        key = self._path[-1] if self._path else "..."
        return self._stop(
            QS107,
            f"{what} holds more than {MAX_VALUES:,} values once its aliases are expanded",
            span,
            "each `*name` copies all that `&name` marks, copies of copies included: write the few "
            f"values that you need, such as `{key}: [1, 2]`, or delete `{key}` and its aliases",
        )

    def _too_deep(self, span: Span) -> DiagnosticError:
        message = f"nested more than {MAX_DEPTH} levels deep"
        help_ = "close the brackets that were left open, or write the value with fewer of them"
        if self._path:
            message = f"`{'.'.join(self._path)}` is nested more than {MAX_DEPTH} levels deep"
            key = self._path[-1]
            help_ = f"write a value with fewer brackets, such as `{key}: []`, or delete `{key}`"
        return self._stop(QS108, message, span, help_)

    def _end(self, start: Any, end: Any, last: Span) -> Span:
        """Where a collection ends: at its bracket, or with its last child."""
        return self._span(end) if start.flow_style else last

    def _next(self) -> Any:
        try:
            return next(self._events)
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error) from None
        except (yaml.YAMLError, RecursionError) as error:
            message = f"not valid YAML: {str(error).splitlines()[0]}"
            raise self._stop(QS102, message, Span(self.file), None) from None

    def _span(self, event: Any) -> Span:
        return self._span_between(event.start_mark, event.end_mark)

    def _span_between(self, start: Any, end: Any) -> Span:
        return Span(self.file, *self._shift(start), *self._shift(end))

    def _shift(self, mark: Any) -> tuple[int, int]:
        offset = self.col if mark.line == 0 else 1
        return mark.line + self.line, mark.column + offset

    def _syntax(self, error: yaml.MarkedYAMLError) -> DiagnosticError:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            return self._stop(QS102, f"not valid YAML: {error.problem}", Span(self.file), None)
        lines = split_lines(self.text)
        line = lines[mark.line] if mark.line < len(lines) else ""
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            tab = indent.index("\t")
            span = Span(self.file, mark.line + self.line, tab + 1, mark.line + self.line, tab + 2)
            written = " or ".join(closest_lines(lines, mark.line))
            help_ = f"indent with spaces, two a level: {written}"
            return self._stop(QS105, "a tab in the indentation", span, help_)
        start = error.context_mark
        opened = (start.line, start.column) if start else None
        slip = mistake(str(error.problem), lines, mark.line, mark.column, opened)
        row = slip.row + self.line
        col = slip.column + (self.col if slip.row == 0 else 1)
        span = Span(self.file, row, col, row, col + slip.length)
        help_ = slip.help if len(slip.help) <= _LONGEST else "correct it at the marked place"
        fix = None
        if slip.corrected is not None and self.file != COMMAND_LINE:
            fix = Fix(f"-> `{slip.corrected}`", (Edit(span, slip.corrected),))
        return self._stop(QS102, slip.message, span, help_, fix)

    def _tag(self, tag: str, span: Span) -> None:
        first = span.col - (self.col if span.line == self.line else 1)
        line = split_lines(self.text)[span.line - self.line]
        key = self._path[-1] if self._path else "key"
        shown, help_, length = instead_of_tag(tag, line, first, key)
        fix = None
        if length and span.file != COMMAND_LINE:
            tag_span = Span(span.file, span.line, span.col, span.line, span.col + length)
            fix = Fix(f"`{shown}` deleted", (Edit(tag_span, ""),))
        self._fail(QS110, f"tag `{_short(shown)}` is not used in specs", span, help_, fix=fix)

    def _fail(
        self,
        code: Code,
        message: str,
        span: Span,
        help_: str | None,
        notes: tuple[Note, ...] = (),
        fix: Fix | None = None,
    ) -> None:
        self.diagnostics.append(
            code.diagnostic(message, help=help_, span=span, notes=notes, fix=fix)
        )

    def _stop(
        self,
        code: Code,
        message: str,
        span: Span,
        help_: str | None,
        fix: Fix | None = None,
    ) -> DiagnosticError:
        self._fail(code, message, span, help_, fix=fix)
        return DiagnosticError(self.diagnostics)


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
