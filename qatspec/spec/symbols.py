"""Python objects as the names that rules call them by, without importing torch."""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import Any

from qatspec.registry.plugins import FILE_MODULE


def symbol(thing: Any) -> Any:
    """`torch.nn.Conv2d` -> "torch.nn.Conv2d"; texts, numbers and tuples of these pass through.

    The name is the shortest public one: the outermost package that holds the very same object. The
    file of a plugin is called as the spec calls it, `net.Block` for a class of net.py.
    """
    if isinstance(thing, str | int | float | bool | None):
        return thing
    if isinstance(thing, tuple | list):
        return tuple(symbol(part) for part in thing)
    name = getattr(thing, "__name__", None) or str(thing)
    module = getattr(thing, "__module__", None) or ""
    # builtins of torch say `torch._C._VariableFunctions`, operators say `_operator`
    if module.startswith(FILE_MODULE):
        file = getattr(sys.modules.get(module), "__file__", None) or module
        return f"{PurePath(file).stem}.{getattr(thing, '__qualname__', name)}"
    for prefix in (*_prefixes(module), *_prefixes("torch.nn.functional"), "operator"):
        if getattr(sys.modules.get(prefix), name, None) is thing:
            return f"{prefix}.{name}"
    return f"{module}.{getattr(thing, '__qualname__', name)}"


def _prefixes(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: i + 1]) for i in range(len(parts))] if module else []
