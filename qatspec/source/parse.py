"""YAML text to a Tree: libyaml's events, composed here so that depth, size, aliases, keys and
scalars follow the rules of specs and every value keeps its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import yaml

from qatspec.diag import Diagnostic, DiagnosticError, Note, Span
from qatspec.source import scalars
from qatspec.source.text import split_lines
from qatspec.source.tree import MAX_DEPTH, MAX_VALUES, Tree, size_of

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR = "tag:yaml.org,2002:str"
_REPLACE = "!replace"
_KEY = re.compile(r"[\s-]*[\w.]+")


def parse(text: str, file: str, *, line: int = 1, col: int = 1) -> Tree | None:
    """The value of one YAML document, None for an empty one.

    line, col: where `text` begins in `file` (an override's value stands behind its path).
    Raises DiagnosticError with everything found: QS102, QS103, QS105, QS107, QS108, QS110, QS113.
    """
    composer = _Composer(text, file, line, col)
    tree = composer.document()
    if composer.found:
        raise DiagnosticError(composer.found)
    return tree


class _Composer:
    def __init__(self, text: str, file: str, line: int, col: int) -> None:
        self.text, self.file, self.line, self.col = text, file, line, col
        self.found: list[Diagnostic] = []
        self._anchors: dict[str, Tree] = {}
        self._open: set[str] = set()
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
            self._fail("QS110", "a second document", self._span(extra), "keep one document a file")
        return tree

    def _node(self, event: Any, depth: int) -> Tree:
        self._count += 1
        if self._count > MAX_VALUES:
            size_of([Tree(None, self._span(event), size=MAX_VALUES)], self._span(event))
        if depth > MAX_DEPTH:
            message = f"nested more than {MAX_DEPTH} levels deep"
            raise self._stop("QS108", message, self._span(event), "check for unclosed brackets")
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
            message = f"alias `*{event.anchor}` stands inside what it names"
            raise self._stop("QS107", message, span, "write the value out")
        tree = self._anchors.get(event.anchor)
        if tree is None:
            message = f"alias `*{event.anchor}` names no anchor above it"
            raise self._stop("QS102", message, span, f"mark a value with `&{event.anchor}`")
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
                "QS113",
                f"`{_short(event.value)}` is not a finite number",
                span,
                "give a finite number, or quote it if it is a text",
            )
            return Tree(0, span, text=event.value)

    def _mapping(self, event: Any, depth: int) -> Tree:
        start = self._span(event)
        items: dict[str, Tree] = {}
        end = start
        while not isinstance(key := self._next(), yaml.MappingEndEvent):
            if not isinstance(key, yaml.ScalarEvent):
                message = "a key that is not a plain text"
                raise self._stop("QS110", message, self._span(key), "use texts as keys")
            key_span = self._span(key)
            if key.value == "<<" and key.implicit[0]:
                self._fail(
                    "QS110",
                    "merge key `<<` is not part of YAML 1.2",
                    key_span,
                    "use `extends`, or a reference: `${vars.<name>}`",
                )
            value = self._node(self._next(), depth + 1)
            end = value.span
            if key.value in items:
                first = items[key.value].key
                self._fail(
                    "QS103",
                    f"key `{_short(key.value)}` stands twice in this mapping",
                    key_span,
                    "delete one of the two",
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
        if event.tag not in (None, "!", _REPLACE):
            self._tag(event.tag, start)
        span = Span(self.file, start.line, start.col, end.end_line, end.end_col)
        return Tree(items, span, replace=event.tag == _REPLACE, size=size_of(items, span))

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
            raise self._stop("QS102", message, Span(self.file), None) from None

    def _span(self, event: Any) -> Span:
        return self._place(event.start_mark, event.end_mark)

    def _place(self, start: Any, end: Any) -> Span:
        return Span(self.file, *self._shift(start), *self._shift(end))

    def _shift(self, mark: Any) -> tuple[int, int]:
        offset = self.col if mark.line == 0 else 1
        return mark.line + self.line, mark.column + offset

    def _syntax(self, error: yaml.MarkedYAMLError) -> DiagnosticError:
        mark = error.problem_mark or error.context_mark
        if mark is None:
            return self._stop("QS102", f"not valid YAML: {error.problem}", Span(self.file), None)
        lines = split_lines(self.text)
        line = lines[mark.line] if mark.line < len(lines) else ""
        indent = line[: len(line) - len(line.lstrip())]
        if "\t" in indent:
            tab = indent.index("\t")
            span = Span(self.file, mark.line + self.line, tab + 1, mark.line + self.line, tab + 2)
            help_ = "indent with two spaces a level"
            return self._stop("QS105", "a tab in the indentation", span, help_)
        row, col = self._shift(mark)
        notes: tuple[Note, ...] = ()
        if error.context and error.context_mark:
            place = self._place(error.context_mark, error.context_mark)
            notes = (Note(error.context, span=place),)
        return self._stop(
            "QS102",
            f"not valid YAML: {error.problem}",
            Span(self.file, row, col, row, col + 1),
            _advice(str(error.problem), line, mark.column),
            notes,
        )

    def _tag(self, tag: str, span: Span) -> None:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        help_ = "remove it; types follow from how a value is written"
        if shown == _REPLACE:
            help_ = "`!replace` stands before a mapping or a list"
        self._fail("QS110", f"tag `{_short(shown)}` is not used in specs", span, help_)

    def _fail(
        self,
        code: str,
        message: str,
        span: Span,
        help_: str | None,
        notes: tuple[Note, ...] = (),
    ) -> None:
        self.found.append(
            Diagnostic(code=code, message=message, help=help_, span=span, notes=notes)
        )

    def _stop(
        self,
        code: str,
        message: str,
        span: Span,
        help_: str | None,
        notes: tuple[Note, ...] = (),
    ) -> DiagnosticError:
        self._fail(code, message, span, help_, notes)
        return DiagnosticError(self.found)


def _advice(problem: str, line: str, column: int) -> str:
    if "${" in line and ("'}'" in problem or "']'" in problem):
        return 'inside `{...}` and `[...]` a reference needs quotes: `"${vars.<path>}"`'
    if "mapping values are not allowed" in problem:
        if _KEY.fullmatch(line[:column]):
            return "indent it exactly like the keys beside it, and check the line above"
        return "put quotes around a text that holds a colon"
    if "expected key" in problem or "block mapping" in problem:
        return "indent siblings alike, and close brackets and quotes"
    if "cannot start any token" in problem:
        return "quote a text that begins with a special character (`@`, `` ` ``, `%`)"
    if "':'" in problem:
        return "write `key: value`, with a space behind the colon"
    if "[" in line or "{" in line:
        return "close the bracket"
    return "check quotes, brackets and indentation here and on the line above"


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:57] + "..."
