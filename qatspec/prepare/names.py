"""Code that a spec may name: that of plugins, and modules of torch, nothing else."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS602
from qatspec.registry import registry
from qatspec.registry.plugins import package_name
from qatspec.spec.symbols import symbol

#: Namespaces of torch that a spec may name: modules, and functions that take and return modules.
_TORCH = ("torch.nn", "torch.ao.nn", "torch.ao.quantization")


def resolve_code(value: Any, at: str = "") -> Any:
    """Return the class or function `value`, or the one that "package.module.name" names.

    A name is looked up in torch.nn, torch.ao.nn, torch.ao.quantization and in the packages of the
    installed plugins; a file plugin is called by its file's name without `.py`.
    Raises DiagnosticError QS602 for anything else.
    """
    if not isinstance(value, str):
        return value
    owner, _, name = value.rpartition(".")
    code = getattr(_module(owner), name, None)
    if code is None:
        raise refused(
            f"`{value}` is not a class or function of torch.nn or of a plugin",
            "write `package.module.name` of an installed plugin, or register it by a hook",
            at,
        )
    return code


def class_name(value: Any) -> str:
    """Return the name of a class as its modules have it: a class of a file plugin has the module
    name that the file was loaded under."""
    if not isinstance(value, str):
        return str(symbol(value))
    owner, _, name = value.rpartition(".")
    return str(symbol(getattr(_module(owner), name, value)))


def refused(message: str, help_: str, at: str) -> DiagnosticError:
    """A QS602 error."""
    return QS602.error(message, help=help_, at=at or None)


def _module(owner: str) -> Any:
    if (module := registry().plugin_module(owner)) is not None:
        return module
    packages = [package_name(plugin) for plugin in registry().plugins()]
    if not any(owner == p or owner.startswith(f"{p}.") for p in (*_TORCH, *packages)):
        return None
    try:
        return sys.modules.get(owner) or importlib.import_module(owner)
    except ImportError:
        return None
