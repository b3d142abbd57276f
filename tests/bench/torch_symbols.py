"""Write schemas/torch-symbols.json: the names of torch that a spec may use, for a front half that
never imports torch.

    python tests/bench/torch_symbols.py

tests/contract/test_symbols.py fails when the file is not what this writes.
"""

from __future__ import annotations

import importlib
import json
import operator
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import nn

from qatspec.registry import registry

FILE = Path(__file__).parents[2] / "schemas" / "torch-symbols.json"
#: Namespaces of modules: their classes; of functions: their public callables.
MODULES = (
    "torch.nn", "torch.nn.intrinsic", "torch.nn.intrinsic.qat", "torch.nn.qat",
    "torch.ao.nn.intrinsic", "torch.ao.nn.intrinsic.qat", "torch.ao.nn.qat",
)  # fmt: skip
FUNCTIONS = ("torch", "torch.nn.functional", "torch.special", "torch.fft", "torch.linalg")

#: Of `operator`, what only some of the Pythons that qatspec runs on have.
NEWER = ("call", "is_none", "is_not_none")


def table() -> dict[str, Any]:
    """{"torch": version, "namespaces": {namespace: [name]}}, with every spelling of an op."""
    found = {name: _classes(importlib.import_module(name)) for name in MODULES}
    for name in FUNCTIONS:
        found[name] = _functions(importlib.import_module(name))
    found["torch.Tensor"] = [n for n in _callables(torch.Tensor) if not n.startswith("_")]
    found["operator"] = [n for n in _functions(operator) if n not in NEWER]
    for spelling in (name for names in registry().spellings().values() for name in names):
        namespace, _, name = spelling.rpartition(".")
        if namespace.startswith("qatspec."):  # what a pass puts in the place of torch's
            continue
        if name not in found.setdefault(namespace, []):
            found[namespace].append(name)
    # classes by the module that defines them: what Python prints, so what people copy
    for name in found["torch.nn"]:
        found.setdefault(getattr(nn, name).__module__, []).append(name)
    return {
        "torch": torch.__version__.partition("+")[0],
        "namespaces": {name: sorted(set(found[name])) for name in sorted(found)},
    }


def written() -> str:
    """The file's text: a line a namespace, for readable differences."""
    found = table()
    rows = [f"    {json.dumps(k)}: {json.dumps(v)}" for k, v in found["namespaces"].items()]
    names = '  "namespaces": {\n' + ",\n".join(rows) + "\n  }"
    return f'{{\n  "torch": {json.dumps(found["torch"])},\n{names}\n}}\n'


def _classes(module: ModuleType) -> list[str]:
    return [
        name
        for name in dir(module)
        if isinstance(thing := getattr(module, name), type) and issubclass(thing, nn.Module)
    ]


def _functions(module: ModuleType) -> list[str]:
    return [n for n in _callables(module) if n[0].islower() and not _foreign(module, n)]


def _callables(holder: Any) -> list[str]:
    return [name for name in dir(holder) if callable(getattr(holder, name, None))]


def _foreign(module: ModuleType, name: str) -> bool:
    """Helpers that a module imports for itself: functions of other packages, types, modules."""
    thing = getattr(module, name)
    home = (getattr(thing, "__module__", None) or module.__name__).partition(".")[0].lstrip("_")
    return isinstance(thing, type) or home not in ("torch", "operator", "builtins")


if __name__ == "__main__":
    FILE.write_text(written(), encoding="utf-8")
    print(f"wrote {FILE.name}, {FILE.stat().st_size:,} bytes")
