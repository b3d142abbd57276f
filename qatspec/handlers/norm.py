"""Normalizations that were not folded into a conv."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx

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
    x = lowering.integer(node.args[0])
    slope, offset = _affine(node, lowering)
    scale = x.step * np.maximum(np.abs(slope), np.finfo(np.float32).tiny) / _UNIT
    step, bias = fit_bias(scale, offset)
    weight = np.rint(np.sign(slope) * _UNIT / step).reshape(-1, 1, 1, 1)
    shape, name = lowering.shape()[1:], f"{node.name}.picture"
    picture = len(shape) == 3
    if not picture:
        flat = (shape[0], 1, prod(shape[1:]))
        x = lowering.keep("reshape", x, name=name, shape=flat).terms[0]
    y = lowering.emit(
        "conv",
        (x.value, lowering.const("weight", "int8", weight), lowering.const("bias", "int32", bias)),
        scale * step,
        scale_axis=1,
        name=node.name if picture else name,
        stride=(1, 1),
        padding=(0, 0, 0, 0),
        dilation=(1, 1),
        groups=slope.size,
    )
    return y if picture else lowering.keep("reshape", y.terms[0], shape=shape)


def _affine(node: fx.Node, lowering: Lowering) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset) per channel, float64, of a module or of a call that is given its tensors."""
    module: Any = lowering.context.module(node)
    names = ("running_mean", "running_var", "weight", "bias")
    if len(node.args) > 1:
        given = [lowering.constant(a) for a in (*node.args[1:], None, None)][:4]
    else:
        given = [getattr(module, name, None) for name in names]
    mean, variance, gamma, beta = (
        None if tensor is None else tensor.detach().double().numpy() for tensor in given
    )
    if mean is None or variance is None:
        lowering.fail(
            "a batch norm without running statistics has no integer form",
            "put it directly behind a convolution, where it is folded",
        )
    slope = (1.0 if gamma is None else gamma) / np.sqrt(variance + module.eps)
    return slope, (0.0 if beta is None else beta) - mean * slope
