"""Normalizations that were not folded into a conv."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.program.requantize import fit_bias
from qatspec.types import Annotation, Float, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering
    from qatspec.program.lowered import Sum


def annotate_batch_norm(node: fx.Node, context: GraphContext) -> Annotation:
    """A batch norm that stands alone is a scale and a shift per channel."""
    return Annotation(output=Observed())


def annotate_float(node: fx.Node, context: GraphContext) -> Annotation:
    """Norms over the input's own statistics."""
    return Annotation(
        output=Float(f"{context.op(node)} needs the input's own statistics: no integer form"),
        inputs=(),
    )


#: Fraction bits of a batch norm's unit weight, so that its bias is rounded finely.
_UNIT = 64


def lower_batch_norm(node: fx.Node, lowering: Lowering) -> Sum:
    """A depthwise 1x1 conv with weights of +-64: the scale is the batch norm's, the bias int32."""
    module = lowering.context.module(node)
    if (
        not isinstance(module, nn.BatchNorm2d)
        or module.running_var is None
        or module.running_mean is None
    ):
        lowering.fail(
            "only BatchNorm2d with running statistics has an integer form",
            "put it directly behind a convolution, where it is folded",
        )
    x = lowering.integer(node.args[0])
    deviation = torch.sqrt(module.running_var.double() + module.eps)
    gamma = torch.ones_like(deviation) if module.weight is None else module.weight.double()
    factor = gamma / deviation
    shift = -module.running_mean.double() * factor
    if module.bias is not None:
        shift = shift + module.bias.double()
    slope, offset = factor.detach().numpy(), shift.detach().numpy()
    scale = x.step * np.maximum(np.abs(slope), np.finfo(np.float32).tiny) / _UNIT
    step, bias = fit_bias(scale, offset)
    weight = np.rint(np.sign(slope) * _UNIT / step).reshape(-1, 1, 1, 1)
    return lowering.emit(
        "conv",
        (x.value, lowering.const("weight", "int8", weight), lowering.const("bias", "int32", bias)),
        scale * step,
        scale_axis=1,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=slope.size,
    )
