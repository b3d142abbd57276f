"""qatspec's own ops, registered through the same entry point as any plugin's."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable

import qatspec.ops
from qatspec.hookspecs import hookimpl
from qatspec.types import QuantHandler


@hookimpl
def qatspec_quant_handlers() -> Iterable[QuantHandler]:
    """The handlers of every family: of each folder of this package, in alphabetical order."""
    for module in pkgutil.iter_modules(qatspec.ops.__path__):
        if module.ispkg:
            yield from importlib.import_module(f"qatspec.ops.{module.name}.record").HANDLERS
