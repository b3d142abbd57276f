"""Convolutions: the anchors of fused groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.program.requantize import fit_bias
from qatspec.quant.modules import QuantFold, QuantWeight
from qatspec.types import Annotation, Float

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.program import DType
    from qatspec.program.lowered import Sum


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """Weight per output channel, own output range, able to end in an int32 accumulator."""
    if context.module(node) is None:
        return Annotation(output=Float("a functional call owns no weight: use the nn module"))
    return Annotation(kind="anchor", has_weight=True, int32_tail=True)


def lower(node: fx.Node, lowering: Lowering) -> Sum:
    """Integer conv with an int32 bias; its accumulator has scale x * weight per channel."""
    module = lowering.context.module(node)
    if not isinstance(module, (QuantWeight, QuantFold)):
        lowering.fail(
            "its weight is not quantized: a rule leaves it in float",
            "remove the `null` rule that matches it, or leave the whole module unprepared",
            "QS702",
        )
    geometry = module.geometry
    dims = 1 if geometry.op == "linear" else int(geometry.op[-2])
    if dims == 3 or geometry.padding_mode != "zeros":
        lowering.fail(
            f"{geometry.op} with padding {geometry.padding_mode!r} has no integer form",
            "use 1-d or 2-d convolutions with zero padding",
        )
    x = lowering.integer(node.args[0])
    weight, w_scale, bias = _integers(module, [lowering.constant(a) for a in node.args[1:]])
    scale = x.step * w_scale
    operands = []
    if bias is not None:
        step, levels = fit_bias(scale, bias)
        scale = scale * step
        steps = geometry.per_channel(torch.from_numpy(step), torch.from_numpy(weight)).numpy()
        weight = np.rint(weight / steps)
        operands = [lowering.const("bias", "int32", levels)]
    dtype = cast("DType", module.weight_fake_quant.qspec.dtype.removeprefix("q"))
    if geometry.op == "linear":
        name = lowering.const("weight", dtype, weight)
        axis = len(lowering.shape()) - 1
        return lowering.emit("linear", (x.value, name, *operands), scale, scale_axis=axis)
    if dims == 1:  # one row of a picture
        weight = weight[:, :, None, :]
        channels, length = lowering.shape(node.args[0])[1:]
        shape = (channels, 1, length)
        x = lowering.keep("reshape", x, name=f"{node.name}.row", shape=shape).terms[0]
    left, right, top, bottom = (*geometry.pad, 0, 0)[:4]
    attrs: dict[str, Any] = {
        "stride": (1, *geometry.stride)[-2:],
        "padding": (top, left, bottom, right),
        "dilation": (1, *geometry.dilation)[-2:],
        "groups": geometry.groups,
    }
    if geometry.transposed:
        attrs["output_padding"] = (0, *geometry.output_padding)[-2:]
    kind = "conv_transpose" if geometry.transposed else "conv"
    name = lowering.const("weight", dtype, weight)
    result = node.name if dims == 2 else f"{node.name}.sum"
    y = lowering.emit(kind, (x.value, name, *operands), scale, scale_axis=1, name=result, **attrs)
    return y if dims == 2 else lowering.keep("reshape", y.terms[0], shape=lowering.shape()[1:])


def _integers(
    module: QuantWeight | QuantFold, arguments: list[torch.Tensor]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(weight integers, its scale float64 (O,), the real bias or None), folded."""
    with torch.no_grad():
        levels, scale = module.quantized_weight(*arguments)
        bias = module.folded(*arguments)[1]
    real = None if bias is None else bias.detach().numpy().astype(np.float64)
    return levels.numpy().astype(np.float64), scale.numpy().astype(np.float64), real
