"""Fake-quants: each ends a group of fused ops and has the grid of its result."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import cast

from torch import fx, nn

from qatspec.diag.codes import QS701, QS705
from qatspec.graph.context import GraphContext
from qatspec.ir import DType
from qatspec.lowering import Grid, Unlowerable
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.types import OpTrait


def fake_quant_of(node: fx.Node, modules: Mapping[str, nn.Module]) -> FakeQuantize | None:
    """The fake-quant that `node` calls, None for any other node."""
    module = modules.get(str(node.target)) if node.op == "call_module" else None
    return module if isinstance(module, FakeQuantize) else None


def grid_of(fake_quant: FakeQuantize, path: str) -> Grid | None:
    """The grid of an activation's fake-quant; None for an output that stays unquantized.

    The result does not depend on whether fake-quant is switched on (calibration does not).
    Raises Unlowerable QS705 on a scale that is no positive number or was never observed.
    """
    if fake_quant.disabled:
        return None
    scale = float(fake_quant.scale.detach().reshape(-1)[0])  # a learned scale has a gradient
    if not fake_quant.observed or not math.isfinite(scale) or scale <= 0:
        state = f"scale {scale}" if fake_quant.observed else "no range was ever observed"
        raise Unlowerable(
            QS705,
            f"fake-quant `{path}` has no usable scale: {state}",
            "run calibration or qat before converting",
        )
    if fake_quant.scale.numel() != 1:
        raise Unlowerable(
            QS701,
            f"fake-quant `{path}` is per channel: activations have one scale",
            "derive the class that holds it from torch's own, so that it is one op with its weight"
            if path.endswith("weight_fake_quant")
            else "leave ch_axis out of the activation's qconfig",
        )
    return Grid(scale, cast("DType", fake_quant.qspec.dtype.removeprefix("q")))


def grids(context: GraphContext) -> Callable[[fx.Node], Grid | None]:
    """node -> the grid of the fake-quant behind it, or behind the clamps that follow it alone."""

    def grid(node: fx.Node) -> Grid | None:
        for user in node.users:
            fake_quant = fake_quant_of(user, context.modules)
            if fake_quant is not None:
                return grid_of(fake_quant, str(user.target))
            if len(node.users) == 1 and context.has_trait(user, OpTrait.CLAMP):
                return grid(user)
        return None

    return grid
