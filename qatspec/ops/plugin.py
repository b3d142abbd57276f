"""qatspec's own ops, registered through the same entry point as any plugin's."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from qatspec.hookspecs import hookimpl
from qatspec.types import QuantHandler

FAMILIES = (
    "arithmetic",
    "clamps",
    "convolution",
    "elementwise",
    "embedding",
    "floor_division",
    "inert",
    "joins",
    "matmul",
    "moves",
    "norms",
    "padding",
    "pools",
    "reductions",
    "resize",
    "shuffles",
    "sizes",
    "softmax",
)


@hookimpl
def qatspec_quant_handlers() -> Iterable[QuantHandler]:
    """The handlers of every family."""
    for family in FAMILIES:
        yield from importlib.import_module(f"qatspec.ops.{family}.record").HANDLERS
