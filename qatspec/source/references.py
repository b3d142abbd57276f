"""`${vars.a.b}` and `${env:NAME}`: values named instead of repeated."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from qatspec.diag import Code, Diagnostic, DiagnosticError, Edit, Fix, Note, Span
from qatspec.diag.codes import QS107, QS302, QS303, QS304, QS305
from qatspec.diag.words import nearest, quote_list, suggest, sure_correction
from qatspec.source.environment import EnvironmentText, remember, with_values
from qatspec.source.tree import MAX_DEPTH, Tree, kind_of, size_of

_MAX_TEXT = 64 * 1024
#: An innermost reference, or an escaped `$${`.
_TOKEN = re.compile(r"\$\$\{|\$\{([^${}]*)\}")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
#: Stands for an escaped `${` while references are resolved; check_text keeps it out of files.
_ESCAPED = "\x00"


def substitute(
    tree: Tree, environ: Mapping[str, str] = os.environ, *, allow_unset: bool = False
) -> Tree:
    """`tree` with every reference resolved.

    A reference that is the whole value keeps the type of what it names; inside a text it must
    name a scalar. References nest, innermost first. allow_unset: a variable of the environment that
    is not set has its name in angle brackets as its value. Raises DiagnosticError with everything
    found: QS302, QS303, QS304, QS305, QS107.
    """
    resolver = _Resolver(tree, environ, allow_unset)
    result = resolver.resolve(tree)
    if resolver.diagnostics:
        raise DiagnosticError(_once_per_variable(resolver.diagnostics.values()))
    return result


def _once_per_variable(diagnostics: Iterable[Diagnostic]) -> Iterator[Diagnostic]:
    """The diagnostics, with one for each variable that is not there: at its first reference, with
    the number of the others and the fix of all."""
    by_variable: dict[tuple[object, ...], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        span = diagnostic.span if diagnostic.code not in (QS302, QS303) else None
        by_variable.setdefault((diagnostic.code, diagnostic.message, span), []).append(diagnostic)
    for same in by_variable.values():
        first, *others = sorted(same, key=lambda one: one.span or Span(""))
        yield _with_others(first, others) if others else first


def _with_others(first: Diagnostic, others: Sequence[Diagnostic]) -> Diagnostic:
    """A diagnostic that also stands for those of other references to its variable."""
    count = len(others)
    text = "it is also referenced here" if count == 1 else f"{count} further references, the next"
    notes = (*first.notes, Note(text, span=others[0].span))
    fixes = [one.fix for one in (first, *others) if one.fix]
    edits = tuple(dict.fromkeys(edit for fix in fixes for edit in fix.edits))
    return replace(first, notes=notes, fix=replace(fixes[0], edits=edits) if fixes else None)


class _Unresolved(Exception):
    """A reference failed; its diagnostic has been recorded."""


class _Resolver:
    def __init__(self, root: Tree, environ: Mapping[str, str], allow_unset: bool) -> None:
        self.root, self.environ, self.allow_unset = root, environ, allow_unset
        self.diagnostics: dict[tuple[Span, str], Diagnostic] = {}
        self._done: dict[int, Tree] = {}
        self._chain: list[str] = []
        #: text from the environment -> the values in it, with their references
        self._values: dict[str, dict[str, str]] = {}

    def resolve(self, tree: Tree) -> Tree:
        """A failed value stays as it was written; its diagnostic has been recorded."""
        if isinstance(tree.value, dict):
            items = {name: self.resolve(child) for name, child in tree.value.items()}
            return replace(tree, value=items, size=size_of(items, tree.span))
        if isinstance(tree.value, list):
            children = [self.resolve(child) for child in tree.value]
            return replace(tree, value=children, size=size_of(children, tree.span))
        if isinstance(tree.value, str) and "${" in tree.value:
            try:
                return self._text(tree)
            except _Unresolved:
                return tree
        return tree

    def _text(self, tree: Tree) -> Tree:
        text = str(tree.value)
        values: dict[str, str] = {}  # of the environment, with their references
        while match := _TOKEN.search(text):
            if match.group(1) is None:
                text = text[: match.start()] + _ESCAPED + text[match.end() :]
                continue
            named = self._named(match.group(1).strip(), tree)
            if match.span() == (0, len(text)):
                origin = named.origin or named.span
                return replace(named, span=tree.span, key=tree.key, origin=origin)
            if isinstance(named.value, EnvironmentText):
                values |= self._values[str(named.value)]
            text = text[: match.start()] + self._inline(named, match, tree) + text[match.end() :]
            if len(text) > _MAX_TEXT:
                raise self._fail(tree, QS107, "the text grows beyond 64 KiB", "shorten it")
        if "${" in text:
            raise self._fail(
                tree,
                QS304,
                "a reference is not closed",
                _closed(text),
            )
        text = text.replace(_ESCAPED, "${")
        if not values:
            return replace(tree, value=text, text=text)
        self._values[text] = values
        return replace(tree, value=with_values(text, values), text=text)

    def _inline(self, named: Tree, match: re.Match[str], tree: Tree) -> str:
        if named.value is None or isinstance(named.value, dict | list):
            message = f"`{match.group()}` is {kind_of(named.value)}, it cannot stand inside a text"
            raise self._fail(tree, QS304, message, "make the reference the whole value")
        # What it names is final: a `${` in it is text, not another reference.
        return named.text.replace("${", _ESCAPED)

    def _named(self, name: str, tree: Tree) -> Tree:
        if name.startswith("env:"):
            return self._environment(name.removeprefix("env:"), tree)
        keys = name.split(".")
        if keys[0] != "vars" or len(keys) < 2 or not all(keys):
            message = f"`${{{name}}}` is not a reference"
            advice = (
                f"write `${{vars.{name}}}` and give it a value at the top: "
                f"`vars: {{{name}: ...}}`; "
                f"`${{env:NAME}}` takes one from the environment; a literal `${{` is `$${{`"
            )
            raise self._fail(tree, QS304, message, advice)
        if name in self._chain or len(self._chain) >= MAX_DEPTH:
            chain = " -> ".join([*self._chain[-8:], name])
            last = name.rpartition(".")[2]
            advice = f"write a value in place of one of the references, such as `{last}: 1`"
            raise self._fail(tree, QS305, f"references go in a circle: {chain}", advice)
        self._chain.append(name)
        try:
            return self._walk(keys, tree)
        finally:
            self._chain.pop()

    def _walk(self, keys: list[str], tree: Tree) -> Tree:
        node, final = self.root, False
        for depth, key in enumerate(keys):
            if isinstance(node.value, str) and not final:
                node, final = self._resolved_once(node), True
            below: Tree | None = None
            known: list[str] = []
            if isinstance(node.value, dict):
                known, below = list(node.value), node.value.get(key)
            elif isinstance(node.value, list) and key.isdecimal():
                below = node.value[int(key)] if int(key) < len(node.value) else None
            if below is None:
                here = ".".join(keys[:depth])
                message = f"`{here}` has no `{key}`"
                if depth == 0:
                    message = f"`${{{'.'.join(keys)}}}` names nothing: the spec has no `vars`"
                if isinstance(node.value, list):
                    message = f"`{here}` is a list of {len(node.value)}, it has no `{key}`"
                advice = _declare(keys, depth, known)
                if isinstance(node.value, list):
                    advice = _entry_of(here, len(node.value))
                sure = sure_correction(key, known) if keys[0] == "vars" and depth else None
                raise self._fail(tree, QS302, message, advice, _respelt(tree, keys, depth, sure))
            node = below
        return node if final else self._resolved_once(node)

    def _resolved_once(self, node: Tree) -> Tree:
        """`node` resolved, once."""
        done = self._done.get(id(node))
        if done is None:
            before = len(self.diagnostics)
            done = self._done[id(node)] = self.resolve(node)
            if len(self.diagnostics) > before:
                raise _Unresolved
        return done

    def _environment(self, name: str, tree: Tree) -> Tree:
        if not _NAME.fullmatch(name):
            message = f"`{name}` is not the name of an environment variable"
            raise self._fail(tree, QS304, message, "write `${env:<NAME>}`")
        value = self.environ.get(name, f"<{name}>" if self.allow_unset else None)
        if value is None:
            near = suggest(name, [n for n in self.environ if n[:1] == name[:1]]) or ""
            advice = near if near.startswith("did") else f"export {name}=... before the command"
            raise self._fail(tree, QS303, f"environment variable `{name}` is not set", advice)
        self._values[value] = {value: f"${{env:{name}}}"}
        return Tree(remember(name, value), tree.span, text=value)

    def _fail(
        self, tree: Tree, code: Code, message: str, advice: str, fix: Fix | None = None
    ) -> _Unresolved:
        notes = (Note("the value was set here", span=tree.origin),) if tree.origin else ()
        diagnostic = code.diagnostic(message, help=advice, span=tree.span, notes=notes, fix=fix)
        self.diagnostics.setdefault((tree.span, code), diagnostic)
        return _Unresolved()


def _declare(keys: list[str], depth: int, known: list[str]) -> str:
    """The help line for an undeclared variable. keys: its path; known: the declared keys there."""
    key = keys[depth]
    below = ".".join(keys[:depth])
    if depth == 0:
        line = f"vars: {{{keys[1]}: 8}}"
        return (
            f"add a line `{line}` at the top of the file, with your value in place of the 8; or "
            f"write the value itself in place of `${{{'.'.join(keys)}}}`"
        )
    if near := nearest(key, known):
        return f"did you mean `{near}`?"
    add = f"add `{key}: 8` to `{below}:`, with your value in place of the 8"
    return f"{add}; it has {quote_list(known)}" if known else add


def _entry_of(name: str, count: int) -> str:
    """The help line for an entry that the list `name` does not have."""
    last = f"0 to {count - 1}" if count > 1 else "0"
    if not count:
        return f"write a value into `{name}: []`"
    return f"its entries are numbered {last}: correct the number, or append a value to `{name}`"


def _closed(text: str) -> str:
    start = text.rindex("${")
    name = re.match(r"[\w.:]*", text[start + 2 :])
    named = name.group() if name and name.group() else "vars.<name>"
    return f"close it: `${{{named}}}`; a literal `${{` is written `$${{`"


def _respelt(tree: Tree, keys: list[str], depth: int, key: str | None) -> Fix | None:
    """The reference with `key` in place of its misspelt part. None where the text of the file is
    not the text that was resolved (escapes, folded lines, nested references, an alias)."""
    before, after = ".".join(keys[:depth]), ".".join(keys[depth + 1 :])
    old = f"${{{'.'.join(keys)}}}"
    at = tree.text.find(old)
    span = tree.span
    quotes = span.end_col - span.col - len(tree.text)  # none, or one before and one behind
    plain = span.line == span.end_line and quotes in (0, 2) and "\\" not in tree.text
    if key is None or tree.origin or at < 0 or not plain:
        return None
    new = f"${{{'.'.join(part for part in (before, key, after) if part)}}}"
    start = span.col + quotes // 2 + at
    old_key = Span(span.file, span.line, start, span.line, start + len(old))
    return Fix(f"`{old}` -> `{new}`", (Edit(old_key, new),))
