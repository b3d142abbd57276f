"""The modules, classes and functions that a PrepareConfig names, looked up in the module."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from qatspec.diag import Collector, Diagnostic
from qatspec.diag.codes import QS505
from qatspec.diag.words import suggest
from qatspec.prepare.capture import module_at
from qatspec.spec.model import ModuleQuant
from qatspec.spec.symbols import symbol
from qatspec.types import PrepareConfig, Standalone


def overlapping(leaves: Sequence[ModuleQuant]) -> list[Diagnostic]:
    """Return an error QS505 for each module that lies inside another one that is prepared."""
    return [
        QS505.diagnostic(
            f"`{inner.path}` lies inside `{outer.path or 'the model'}`, which is prepared whole",
            help="give it rules in the outer module's qconfig, or name it in "
            "`prepare: {standalone_module_name: [...]}`",
            at=inner.at or None,
        )
        for outer in leaves
        for inner in leaves
        if inner is not outer and (not outer.path or f"{inner.path}.".startswith(f"{outer.path}."))
    ]


def standalone_modules(module: nn.Module, config: PrepareConfig) -> dict[str, Standalone]:
    """Return path -> entry of each standalone module. An entry by name overrides one by class."""
    items: dict[str, Standalone] = {}
    unknown = Collector()
    for item in config.standalone_module_name:
        name = item.name or ""
        with unknown.collect():
            module_at(module, name, item.at)
        items[name] = item
    unknown.raise_if_any()
    for item in config.standalone_module_class:
        for name, child in module.named_modules():
            if name and name not in items and is_class(child, (item.cls,)):
                items[name] = item
    return items


def non_traceable(module: nn.Module, config: PrepareConfig) -> list[str]:
    """Return the paths of the modules that tracing does not enter, by name and by class."""
    unknown = Collector()
    for name in config.non_traceable_module_name:
        with unknown.collect():
            module_at(module, name)
    unknown.raise_if_any()
    classes = config.non_traceable_module_class
    by_class = [n for n, m in module.named_modules() if n and is_class(m, classes)]
    return [*config.non_traceable_module_name, *by_class]


def is_class(module: nn.Module, classes: Sequence[Any]) -> bool:
    """Return whether the module is an instance of one of `classes`, which are given as classes or
    by qualified name."""
    named = {symbol(c) for c in classes}
    bases = type(module).__mro__
    return any(symbol(b) in named or f"{b.__module__}.{b.__qualname__}" in named for b in bases)


def wrapped_functions(module: nn.Module, names: Sequence[Any]) -> list[Callable[..., Any]]:
    """Return the functions that `wrap` names: functions themselves, "package.module.function" of a
    module that is loaded already, or the bare name of a function in the model's own files.

    Builtins such as `len` need no wrapping here: structure is real while tracing.
    """
    functions, unknown = [], Collector()
    for name in names:
        if callable(name):
            functions.append(name)
        elif not hasattr(builtins, name):
            with unknown.collect():
                functions.append(_function(module, name))
    unknown.raise_if_any()
    return functions


def _function(module: nn.Module, name: str) -> Callable[..., Any]:
    owner, _, attribute = name.rpartition(".")
    files = [owner] if owner else [type(m).__module__ for m in module.modules()]
    for file in files:
        function = getattr(sys.modules.get(file), attribute, None)
        if callable(function):
            return function  # type: ignore[no-any-return]
    raise QS505.error(
        f"`wrap` names `{name}`, which is not a function of the model's files",
        help="give the function's name as the model's file has it, or `package.module.name`",
    )


def require_attributes(module: nn.Module, config: PrepareConfig) -> None:
    """Raise DiagnosticError QS505 where `preserved_attributes` names one that the module lacks."""
    unknown = Collector()
    for name in config.preserved_attributes:
        with unknown.collect():
            _require_attribute(module, name)
    unknown.raise_if_any()


def _require_attribute(module: nn.Module, name: str) -> None:
    if not hasattr(module, name):
        known = [*vars(module), *(n for n, _ in module.named_children())]
        raise QS505.error(
            f"`preserved_attributes` names `{name}`, which the module lacks",
            help=suggest(name, [k for k in known if not k.startswith("_")]),
        )
