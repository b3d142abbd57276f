"""What a PrepareConfig names, found in the module."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from qatspec.diag import Diagnostic
from qatspec.prepare.capture import module_at
from qatspec.prepare.tracing import is_class
from qatspec.spec.model import ModuleQuant
from qatspec.types import PrepareConfig, Standalone


def overlapping(leaves: Sequence[ModuleQuant]) -> list[Diagnostic]:
    """Errors QS505 for a module that lies inside another one that is prepared whole."""
    return [
        Diagnostic(
            code="QS505",
            message=f"`{inner.path}` lies inside `{outer.path or 'the model'}`, which is prepared "
            "whole",
            help="give it rules in the outer module's qconfig, or name it in "
            "`prepare: {standalone_module_name: [...]}`",
            at=inner.at or None,
        )
        for outer in leaves
        for inner in leaves
        if inner is not outer and (not outer.path or f"{inner.path}.".startswith(f"{outer.path}."))
    ]


def standalone_modules(module: nn.Module, config: PrepareConfig) -> dict[str, Standalone]:
    """path -> entry of each standalone module, by name first (a name beats a class)."""
    found: dict[str, Standalone] = {}
    for item in config.standalone_module_name:
        name = item.name or ""
        module_at(module, name, item.at)
        found[name] = item
    for item in config.standalone_module_class:
        for name, child in module.named_modules():
            if name and name not in found and is_class(child, (item.cls,)):
                found[name] = item
    return found
