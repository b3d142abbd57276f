"""What `qatspec.api` offers is documented: what each function and method does, every argument and
field, shapes and units of numbers, what it returns, what it raises, and where a formula is from."""

from __future__ import annotations

import ast
import builtins
import dataclasses
import functools
import inspect
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import qatspec.api as api

#: How the first line of a function or method begins. A property is named by what it is.
VERBS = [
    "Add",
    "Attribute",
    "Broadcast",
    "Compile",
    "Compute",
    "Convert",
    "Digest",
    "Divide",
    "Forget",
    "Insert",
    "Judge",
    "Let",
    "Load",
    "Lower",
    "Make",
    "Map",
    "Model",
    "Name",
    "Open",
    "Pad",
    "Permute",
    "Put",
    "Read",
    "Refuse",
    "Reshape",
    "Resolve",
    "Return",
    "Round",
    "Run",
    "Schedule",
    "Send",
    "Switch",
    "Take",
    "Tell",
    "Write",
    "Yield",
]
#: Errors of a caller's mistake in the code, which no docstring lists.
UNLISTED = {"NotImplementedError", "TypeError", "AssertionError"}


def functions() -> dict[str, Callable[..., Any]]:
    """Exported name -> function, without what decorators put around it."""
    values = {name: getattr(api, name) for name in api.__all__}
    found = {n: inspect.unwrap(v) for n, v in values.items() if callable(v)}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


def methods(*, properties: bool) -> dict[str, Callable[..., Any]]:
    """Class.method -> function, of what exported classes have from classes of qatspec."""
    found = {}
    for name in api.__all__:
        exported = getattr(api, name)
        classes = exported.__mro__[::-1] if isinstance(exported, type) else ()
        for key, value in [item for cls in classes for item in vars(cls).items()]:
            is_property = isinstance(value, (property, functools.cached_property))
            inner = getattr(value, "fget", None) or getattr(value, "func", None)
            inner = inner or getattr(value, "__func__", value)
            ours = inspect.isfunction(inner) and inner.__module__.startswith("qatspec")
            if ours and not key.startswith("_") and (properties or not is_property):
                found[f"{name}.{key}"] = inner
    return found


CALLABLES = {**functions(), **methods(properties=False)}
RECORDS = {n: getattr(api, n) for n in api.__all__ if isinstance(getattr(api, n), type)}

#: How a shape is stated: (N, C, H, W), (K, 4), (C,), "of any shape", "one scalar".
SHAPE = re.compile(
    r"\((?:[A-Z]\w*|\d+|\*?\w+)?,? ?(?:[\w*.]+,? ?(?:of [\w ]+)?)*\)|\bshapes?\b|\bscalars?\b"
)
#: What a number counts or measures.
UNIT = re.compile(
    r"\b(bits?|bytes|channels|columns?|cores?|cycles?|dims?|dimension|elements|examples|factor|"
    r"generator|grid|H, W|images?|index|integers?|MHz|microseconds?|multiples|numbers?|opset|"
    r"percentile|pixels?|positions?|processes|ranges?|scales?|seconds?|shape|steps?|threads?|version)\b"
)
#: What computes by a published or agreed formula.
FORMULAS = {
    "Arithmetic", "Hardware", "Lowering.quantize", "Lowering.requant", "Port.dequantize",
    "Port.quantize", "QSpec", "lookup", "perf", "quotient",
}  # fmt: skip
SOURCE = re.compile(r"\([Rr]ules?: |https?://|\b(19|20)\d\d\b|vendor's pages|Source: ")


def raised(function: Callable[..., Any], depth: int = 2) -> Iterator[str]:
    """Names of the exceptions that a function raises itself, or through private functions of its
    module that it calls."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    caught = {
        name
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler) and handler.type is not None
        for name in re.findall(r"\w+", ast.unparse(handler.type))
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            owner, _, name = ast.unparse(node.exc.func).rpartition(".")
            name = "DiagnosticError" if re.fullmatch(r"QS\d{3}", owner) else name
            if name[0].isupper() and name not in caught:
                yield name
        if depth and isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            called = vars(sys.modules[function.__module__]).get(node.func.id)
            own = inspect.isfunction(called) and called.__module__ == function.__module__
            if own and node.func.id.startswith("_") and called is not function:
                yield from raised(called, depth - 1)


def raised_codes(function: Callable[..., Any], depth: int = 3) -> Iterator[str]:
    """Diagnostic codes that a function raises itself, or through functions of qatspec that it
    calls by their names, in any module."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    handlers = [h.type for h in ast.walk(tree) if isinstance(h, ast.ExceptHandler) and h.type]
    catches = any("DiagnosticError" in ast.unparse(handler) for handler in handlers)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if code := re.fullmatch(r"(?:codes\.)?(QS\d{3})\.error", ast.unparse(node.func)):
            yield code[1]
        if depth and isinstance(node.func, ast.Name) and not catches:
            called = inspect.unwrap(vars(sys.modules[function.__module__]).get(node.func.id))
            ours = inspect.isfunction(called) and called.__module__.startswith("qatspec")
            if ours and called is not function:
                yield from raised_codes(called, depth - 1)


def bases(error: str, function: Callable[..., Any]) -> list[str]:
    """Names of an exception and of what it derives from, but Exception."""
    known = {**vars(builtins), **vars(sys.modules[function.__module__])}
    return [cls.__name__ for cls in known[error].__mro__[:-3]] if error in known else [error]


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_a_function_says_what_it_does_in_the_imperative(name):
    documentation = inspect.getdoc(CALLABLES[name]) or ""
    assert documentation.split(" ")[0] in VERBS, f"{name}: {documentation[:60]!r}"


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_a_function_describes_each_argument(name):
    function = CALLABLES[name]
    documentation = inspect.getdoc(function) or ""
    names = [p for p in inspect.signature(function).parameters if p not in ("self", "cls")]
    assert [p for p in names if not re.search(rf"\b{p}\b", documentation)] == []


@pytest.mark.parametrize("name", sorted(CALLABLES))
def test_a_function_that_returns_something_says_what(name):
    function = CALLABLES[name]
    documentation = inspect.getdoc(function) or ""
    if inspect.signature(function).return_annotation in ("None", "NoReturn", None):
        pytest.skip("it returns nothing")
    assert re.search(r"\b([Rr]eturns?|Yields?)\b", documentation), documentation


@pytest.mark.parametrize("name", sorted({**functions(), **methods(properties=True)}))
def test_what_is_raised_is_documented(name):
    function = {**functions(), **methods(properties=True)}[name]
    documentation = inspect.getdoc(function) or ""
    assert documentation, f"{name} has no docstring"
    depth = 2 if name in functions() else 0  # helpers of a class serve several methods
    errors = {*raised(function, depth)} - UNLISTED
    if errors:
        assert re.search(r"Raises|raises", documentation), f"{name} raises {errors}"
        classes = [cls for error in errors for cls in bases(error, function)]
        assert any(cls in documentation for cls in classes) or "Raises as" in documentation


@pytest.mark.parametrize("name", sorted({**CALLABLES, **methods(properties=True)}))
def test_the_shape_of_an_array_is_stated(name):
    function = {**CALLABLES, **methods(properties=True)}[name]
    if not re.search(r"Tensor|ndarray", str(inspect.signature(function))):
        pytest.skip("it takes and returns no array")
    assert SHAPE.search(inspect.getdoc(function) or ""), f"{name} states no shape"


def numbers(documented: Any) -> Iterator[str]:
    """Names of the arguments or fields of a callable that are numbers."""
    if dataclasses.is_dataclass(documented):
        annotations = {f.name: str(f.type) for f in dataclasses.fields(documented)}
    elif inspect.isfunction(documented):
        parameters = inspect.signature(documented).parameters
        annotations = {name: str(p.annotation) for name, p in parameters.items()}
    else:
        return
    for name, annotation in annotations.items():
        if re.match(r"(tuple\[|Sequence\[|None \| )*(int|float)\b", annotation):
            yield name


def described(name: str, documentation: str) -> str:
    """What a description says of a name: the lines that hold it, up to the next entry."""
    entry = rf"[^\n]*\b{name}\b.*?(?=\n\w[\w, ]*  |\n\n|\Z)"
    return " ".join(re.findall(entry, documentation, re.DOTALL))


@pytest.mark.parametrize("name", sorted({*CALLABLES, *RECORDS}))
def test_a_number_says_what_it_counts_or_measures(name):
    documented = CALLABLES.get(name) or RECORDS[name]
    documentation = inspect.getdoc(documented) or ""
    told = {number: described(number, documentation) for number in numbers(documented)}
    assert [number for number, text in told.items() if not UNIT.search(text)] == []


@pytest.mark.parametrize("name", sorted(FORMULAS))
def test_a_formula_has_a_source(name):
    documented = functools.reduce(getattr, name.split("."), api)
    assert SOURCE.search(inspect.getdoc(documented) or ""), f"{name} names no source"


@pytest.mark.parametrize("name", sorted({**functions(), **methods(properties=True)}))
def test_the_codes_that_are_raised_are_named(name):
    """Those of the function and of what it calls, but QS001, a fault of a plugin."""
    function = {**functions(), **methods(properties=True)}[name]
    codes = {*raised_codes(function)} - {"QS001"}
    documentation = inspect.getdoc(function) or ""
    stated = re.findall(r"QS\d{3}", documentation)
    ranges = re.findall(r"QS(\d{3})-QS(\d{3})", documentation)
    missing = {
        code
        for code in codes - {*stated}
        if not any(low <= code[2:] <= high for low, high in ranges)
    }
    if missing:  # the codes of another function that it names, or of a whole phase
        assert re.search(r"[Rr]aises\b.*\b(what|as|every)\b", documentation, re.DOTALL), missing


@pytest.mark.parametrize("name", sorted(n for n in RECORDS if dataclasses.is_dataclass(RECORDS[n])))
def test_a_record_describes_each_field(name):
    record = RECORDS[name]
    ours = [cls for cls in record.__mro__ if cls.__module__.startswith("qatspec")]
    documentation = " ".join(cls.__doc__ or "" for cls in ours)
    fields = [f.name for f in dataclasses.fields(record) if not f.name.startswith("_")]
    assert [f for f in fields if not re.search(rf"\b{f}\b", documentation)] == []


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_a_record_describes_each_of_its_callables(name):
    record = RECORDS[name]
    assert record.__doc__, f"{name} has no docstring"
    if not dataclasses.is_dataclass(record):
        return
    for field in dataclasses.fields(record):
        if "Callable" in str(field.type):
            described = rf"\b{field.name}\(|^ *{field.name}  +.*->"
            assert re.search(described, record.__doc__, re.MULTILINE), f"{name}.{field.name}"


def test_an_undocumented_error_is_found():
    assert {*raised(_fails)} == {"ValueError"}


def _fails() -> None:
    _helper()


def _helper() -> None:
    raise ValueError("it fails")
