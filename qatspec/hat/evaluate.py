"""The values of a config's names, from its syntax tree: nothing of the config is executed.

Literals, dictionaries, names, arithmetic, copies, formatted texts, changes of dictionaries,
branches whose condition is known and loops over known lists are followed. Everything else is
`Unread`.
"""

from __future__ import annotations

import ast
import copy
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from qatspec.diag import Span
from qatspec.hat.values import Symbol, Table, Unread

_PLAIN = (str, bytes, int, float, bool, type(None))
#: Largest list, text and number of steps: a config must not exhaust the machine that reads it.
_MOST = 10_000
_ARITHMETIC: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_COMPARISONS: Mapping[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge, ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b, ast.Is: lambda a, b: a == b,
    ast.IsNot: lambda a, b: a != b,
}  # fmt: skip
_UNARY: Mapping[type[ast.AST], Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: operator.not_,
}  # fmt: skip
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "int": int, "float": float, "str": str, "bool": bool, "len": len, "list": list,
    "tuple": tuple, "min": min, "max": max, "round": round, "abs": abs, "sum": sum,
    "range": lambda *ends: list(islice(range(*ends), _MOST)),
}  # fmt: skip
_COPIES = ("copy.deepcopy", "copy.copy")


class _UnreadError(Exception):
    """The value of an expression is not known."""


def evaluate(
    tree: ast.Module, file: str, text: str, environment: Mapping[str, str]
) -> tuple[Table, list[Span]]:
    """Return what each top-level name of a config holds at its end, with where it was set; and the
    places of statements that could change it and were not followed.

    environment: what `os.environ.get` answers; other variables have the default that the config
    gives, never the value in the environment of this process.
    """
    reading = _Reading(file, text, environment)
    reading.run(tree.body)
    table = Table(Span(file))
    for name, value in reading.names.items():
        table.put(name, value, reading.places.get(name, table.span))
    return table, list(reading.skipped)


class _Reading:
    def __init__(self, file: str, text: str, environment: Mapping[str, str]) -> None:
        self.names: dict[str, Any] = {}
        self.places: dict[str, Span] = {}
        self.skipped: dict[Span, None] = {}
        self._file, self._text, self._environment = file, text, environment
        self._steps = 0

    # -- statements ----------------------------------------------------------------------------

    def run(self, body: Iterable[ast.stmt]) -> None:
        for statement in body:
            self._steps += 1
            if self._steps > _MOST:
                self.skipped[self._span(statement)] = None
                return
            self._statement(statement)

    def _statement(self, node: ast.stmt) -> None:
        match node:
            case ast.Assign(targets, value):
                result = self.value(value)
                for target in targets:
                    self._assign(target, result, value)
            case ast.AnnAssign(target, _, value) if value is not None:
                self._assign(target, self.value(value), value)
            case ast.AugAssign(target, op, value):
                combined = ast.BinOp(_loaded(target), op, value)
                self._assign(target, self.value(ast.copy_location(combined, node)), value)
            case ast.Expr(ast.Call(ast.Attribute(of)) as call):
                result = self.value(call)
                if isinstance(result, Unread) and isinstance(self.value(of), Table | list):
                    self.skipped[self._span(node)] = None
            case ast.Expr():
                pass
            case ast.Import(names):
                for alias in names:
                    bound = alias.asname or alias.name.partition(".")[0]
                    self.names[bound] = Symbol(alias.name if alias.asname else bound)
            case ast.ImportFrom(module, names):
                for alias in names:
                    self.names[alias.asname or alias.name] = Symbol(f"{module}.{alias.name}")
            case ast.FunctionDef(name) | ast.ClassDef(name) | ast.AsyncFunctionDef(name):
                self.names[name] = Symbol(name)
            case ast.If(test, body, orelse):
                condition = self.value(test)
                if isinstance(condition, _PLAIN) or condition == []:
                    self.run(body if condition else orelse)
                else:
                    self._forget(node)
            case ast.For(target, iterated, body, []):
                items = self.value(iterated)
                if not isinstance(items, list | tuple):
                    self._forget(node)
                    return
                for item in items:
                    self._assign(target, item, iterated)
                    self.run(body)
            case ast.Delete(targets):
                for target in targets:
                    self._delete(target)
            case ast.Pass() | ast.Assert():
                pass
            case _:
                self._forget(node)

    def _assign(self, target: ast.expr, value: Any, source: ast.AST) -> None:
        match target:
            case ast.Name(name):
                self.names[name] = value
                self.places[name] = self._span(source)
            case ast.Tuple(parts) | ast.List(parts):
                values = value if isinstance(value, list | tuple) else ()
                for index, part in enumerate(parts):
                    item = values[index] if len(values) == len(parts) else self._unread(source)
                    self._assign(part, item, source)
            case ast.Subscript(container, key):
                holder, index = self.value(container), self.value(key)
                if isinstance(holder, Table) and _is_key(index):
                    holder.put(index, value, self._span(source))
                elif isinstance(holder, list) and isinstance(index, int) and index < len(holder):
                    holder[index] = value

    def _delete(self, target: ast.expr) -> None:
        match target:
            case ast.Name(name):
                self.names.pop(name, None)
            case ast.Subscript(container, key):
                holder, index = self.value(container), self.value(key)
                if isinstance(holder, Table) and _is_key(index):
                    holder.pop(index, None)

    def _forget(self, statement: ast.stmt) -> None:
        """Mark every name that a statement may have changed, and keep its place."""
        self.skipped[self._span(statement)] = None
        for node in ast.walk(statement):
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                self.names[node.id] = self._unread(statement)

    # -- expressions ---------------------------------------------------------------------------

    def value(self, node: ast.expr) -> Any:
        """The value of an expression; `Unread` where it is not known."""
        try:
            return self._value(node)
        except (_UnreadError, ArithmeticError, ValueError, TypeError, LookupError, RecursionError):
            return self._unread(node)

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant(value):
                return value
            case ast.Dict(keys, values):
                return self._dict(node, keys, values)
            case ast.List(items) | ast.Set(items):
                return self._items(items)
            case ast.Tuple(items):
                return tuple(self._items(items))
            case ast.Name(name):
                return self.names.get(name, Symbol(name))
            case ast.Attribute(of, name):
                holder = self.value(of)
                if isinstance(holder, Symbol):
                    return Symbol(f"{holder.text}.{name}")
            case ast.Subscript(of, index):
                return self.value(of)[self.value(index)]
            case ast.UnaryOp(op, operand) if type(op) in _UNARY:
                return _UNARY[type(op)](self._plain(operand))
            case ast.BinOp(left, op, right) if type(op) in _ARITHMETIC:
                return _computed(op, self._plain(left), self._plain(right))
            case ast.BoolOp(op, values):
                return self._bool(op, values)
            case ast.Compare(left, [op], [right]) if type(op) in _COMPARISONS:
                return _COMPARISONS[type(op)](self._plain(left), self._plain(right))
            case ast.IfExp(test, body, orelse):
                return self.value(body if self._plain(test) else orelse)
            case ast.JoinedStr(parts):
                return _bounded("".join(str(self._part(part)) for part in parts))
            case ast.ListComp(element, [ast.comprehension(target, iterated, [], 0)]):
                return self._comprehension(element, target, iterated)
            case ast.Call():
                return self._call(node)
        raise _UnreadError

    def _plain(self, node: ast.expr) -> Any:
        """The value of an expression of which something is computed."""
        value = self.value(node)
        if isinstance(value, Symbol | Unread) or value is ...:
            raise _UnreadError
        return value

    def _dict(
        self, node: ast.expr, keys: Sequence[ast.expr | None], values: Sequence[ast.expr]
    ) -> Table:
        table = Table(self._span(node))
        for key, value in zip(keys, values, strict=True):
            self._entry(table, None if key is None else self._value(key), value)
        return table

    def _entry(self, table: Table, key: Any, node: ast.expr) -> None:
        """Put an entry into a table. key None: `node` is a dictionary that is merged into it."""
        value = self.value(node)
        if key is None and isinstance(value, Table):
            for name, item in value.items():
                table.put(name, item, value.spans.get(name, value.span))
        elif key is None:
            table.put("**", value, self._span(node))
        elif _is_key(key):
            table.put(key, value, self._span(node))

    def _items(self, nodes: Iterable[ast.expr]) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += list(self._plain(node.value))
            else:
                items.append(self.value(node))
        return items

    def _bool(self, op: ast.boolop, nodes: Sequence[ast.expr]) -> Any:
        value = None
        for node in nodes:
            value = self._plain(node)
            if bool(value) == isinstance(op, ast.Or):
                break
        return value

    def _part(self, part: ast.expr) -> Any:
        """A part of a formatted text, as `{name}` or `{name:.3f}`."""
        if not isinstance(part, ast.FormattedValue):
            return self._plain(part)
        form = "" if part.format_spec is None else self._plain(part.format_spec)
        if not re.fullmatch(r"[<>=^+ ]?\d{0,3}(\.\d{1,2})?[a-zA-Z%]?", form):
            raise _UnreadError
        return format(self._plain(part.value), form)

    def _comprehension(self, element: ast.expr, target: ast.expr, iterated: ast.expr) -> list[Any]:
        outer, results = dict(self.names), []
        for item in list(self._plain(iterated)):
            self._assign(target, item, iterated)
            results.append(self.value(element))
        self.names = outer
        return results

    # -- calls ---------------------------------------------------------------------------------

    def _call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute):
            holder = self.value(node.func.value)
            if isinstance(holder, Table | list):
                return self._method(holder, node.func.attr, node)
        function = self.value(node.func)
        name = function.text if isinstance(function, Symbol) else ""
        if name in ("dict", "collections.OrderedDict", "OrderedDict"):
            return self._dict_call(node)
        if name in _COPIES and node.args:
            return copy.deepcopy(self.value(node.args[0]))
        if name in ("os.environ.get", "os.getenv"):
            return self._variable(*[self._plain(a) for a in node.args])
        if name == "os.path.join":
            return _joined([self._plain(a) for a in node.args])
        if name in _FUNCTIONS and not node.keywords:
            return _FUNCTIONS[name](*[self._plain(a) for a in node.args])
        raise _UnreadError

    def _dict_call(self, node: ast.Call) -> Table:
        table = Table(self._span(node))
        for argument in node.args:
            self._entry(table, None, argument)
        for keyword in node.keywords:
            self._entry(table, keyword.arg, keyword.value)
        return table

    def _method(self, holder: Table | list[Any], name: str, node: ast.Call) -> Any:
        arguments = [self.value(a) for a in node.args]
        span = self._span(node)
        match holder, name, arguments:
            case Table(), "get" | "pop", [key, *default]:
                held = holder.pop(key, None) if name == "pop" else holder.get(key)
                return held if held is not None else (default or [None])[0]
            case Table(), "update", _:
                for key, value in self._dict_call(node).items():
                    holder.put(key, value, span)
            case Table(), "copy", []:
                return copy.deepcopy(holder)
            case Table(), "keys", []:
                return list(holder)
            case Table(), "values", []:
                return list(holder.values())
            case Table(), "items", []:
                return list(holder.items())
            case list(), "append", [value] if len(holder) < _MOST:
                holder.append(value)
            case list(), "extend", [list() | tuple() as values] if len(holder) < _MOST:
                holder.extend(values[:_MOST])
            case list(), "insert", [int() as index, value]:
                holder.insert(index, value)
            case list(), "pop", []:
                return holder.pop()
            case _:
                raise _UnreadError
        return None

    def _variable(self, name: Any, default: Any = None) -> Any:
        return self._environment.get(str(name), default)

    # -- places --------------------------------------------------------------------------------

    def _unread(self, node: ast.AST) -> Unread:
        lines = self._text.split("\n")
        line = getattr(node, "lineno", 1)
        source = ast.get_source_segment(self._text, node) if line <= len(lines) else None
        return Unread(" ".join((source or "").split())[:80])

    def _span(self, node: ast.AST) -> Span:
        lines = self._text.split("\n")
        line, end = getattr(node, "lineno", 1), getattr(node, "end_lineno", None) or 1
        start = _column(lines, line, getattr(node, "col_offset", 0))
        return Span(
            self._file, line, start, end, _column(lines, end, getattr(node, "end_col_offset", 0))
        )


def _column(lines: Sequence[str], line: int, offset: int) -> int:
    """The column in code points of an offset in bytes, counted from 1."""
    text = lines[line - 1] if line <= len(lines) else ""
    return len(text.encode("utf-8")[:offset].decode("utf-8", errors="ignore")) + 1


def _loaded(target: ast.expr) -> ast.expr:
    """The expression that reads what a target is assigned to."""
    result = copy.copy(target)
    if hasattr(result, "ctx"):
        result.ctx = ast.Load()
    return result


def _is_key(value: Any) -> bool:
    return isinstance(value, str | int | float | bool | Symbol | type(None)) or (
        isinstance(value, tuple) and all(map(_is_key, value))
    )


def _computed(op: ast.operator, left: Any, right: Any) -> Any:
    """The result of an operator, refused where it could be large."""
    if isinstance(op, ast.Mult):
        for sequence, count in ((left, right), (right, left)):
            if isinstance(sequence, str | bytes | list | tuple) and len(sequence) * count > _MOST:
                raise _UnreadError
    if isinstance(op, ast.Mod) and isinstance(left, str | bytes) and (
        not isinstance(left, str) or re.search(r"%[^a-zA-Z%]*(\d{4}|\*)", left)
    ):  # fmt: skip
        raise _UnreadError
    return _bounded(_ARITHMETIC[type(op)](left, right))


def _bounded(value: Any) -> Any:
    if isinstance(value, str | list | tuple) and len(value) > _MOST:
        raise _UnreadError
    if isinstance(value, int) and value.bit_length() > _MOST:
        raise _UnreadError
    return value


def _joined(parts: Sequence[Any]) -> str:
    if not all(isinstance(part, str) for part in parts):
        raise _UnreadError
    path = ""
    for part in parts:
        path = part if part.startswith("/") or not path else f"{path.rstrip('/')}/{part}"
    return path
