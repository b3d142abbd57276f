"""Norms in integers: by running statistics a scale and a shift per channel, else standardized by
the input's own statistics."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.lowering import Lowering, ScaledInts
from qatspec.ops.norms.calls import (
    GroupNorm,
    LayerNorm,
    RunningNorm,
    batch_norm_of,
    instance_norm_of,
)
from qatspec.ops.norms.standardize import standardized
from qatspec.program.requantize import fit_bias
from qatspec.types import Annotation, Observed

#: The size of a batch norm's weights, so that its bias is rounded finely.
_UNIT = 64


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """A range of its own."""
    return Annotation(output=Observed())


def lower_batch_norm(node: fx.Node, lowering: Lowering) -> ScaledInts:
    return _by_running(lowering, batch_norm_of(node, lowering.context))


def lower_layer_norm(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Over the last dims, which are one while it is computed."""
    call, shape = lowering.context.call(node, LayerNorm), lowering.shape()
    if len(shape) == len(call.sizes):
        lowering.fail("it normalizes over the batch", "leave the batch out of normalized_shape")
    flat = (*shape[1 : len(shape) - len(call.sizes)], prod(call.sizes))
    return standardized(lowering, call, flat, flat, len(flat))


def lower_group_norm(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Over a group's channels and pixels."""
    call = lowering.context.call(node, GroupNorm)
    channels, *sizes = lowering.shape()[1:]
    groups = int(call.num_groups)
    grouped = (groups, channels // groups * prod(sizes))
    return standardized(lowering, call, grouped, (channels, prod(sizes)), 1)


def lower_instance_norm(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Over a channel's pixels, or by running statistics where it keeps them."""
    call = instance_norm_of(node, lowering.context)
    if isinstance(call, RunningNorm):
        return _by_running(lowering, call)
    channels, *sizes = lowering.shape()[1:]
    planes = (channels, prod(sizes))
    return standardized(lowering, call, planes, planes, 1)


def _by_running(lowering: Lowering, norm: RunningNorm) -> ScaledInts:
    """A depthwise 1x1 conv with weights of +-64: the scale is the norm's, the bias int32."""
    node, x = lowering.node, lowering.small_integers(norm.x)
    slope, offset = _affine(lowering, norm)
    shape, name = lowering.shape()[1:], f"{node.name}.picture"
    pictures = lowering.value_shape(x)[0] // shape[0]  # several, where they share the batch's dim
    slope, offset = np.tile(slope, pictures), np.tile(offset, pictures)
    shape = (shape[0] * pictures, *shape[1:])
    scale = x.step * np.maximum(np.abs(slope), np.finfo(np.float32).tiny) / _UNIT
    step, bias = fit_bias(scale, offset)
    weight = np.rint(np.sign(slope) * _UNIT / step).reshape(-1, 1, 1, 1)
    picture = len(shape) == 3
    if not picture:
        flat = (shape[0], 1, prod(shape[1:]))
        x = lowering.emit_same_scale("reshape", x, name=name, shape=flat)
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
    return y if picture else lowering.emit_same_scale("reshape", y, shape=shape)


def _affine(lowering: Lowering, norm: RunningNorm) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset) per channel, float64."""

    def numbers(value: Any) -> np.ndarray | None:
        tensor = lowering.constant(value)
        return None if tensor is None else np.asarray(tensor.detach().double().numpy())

    mean, variance = numbers(norm.mean), numbers(norm.variance)
    gamma, beta = numbers(norm.weight), numbers(norm.bias)
    if mean is None or variance is None:
        lowering.fail(
            "a norm without running statistics has no integer form",
            "build it with `track_running_stats=True`"
            if lowering.node.op == "call_module"
            else "pass `running_mean`, `running_var` and `training=self.training` to it",
        )
    slope = (1.0 if gamma is None else gamma) / np.sqrt(variance + norm.eps)
    return slope, (0.0 if beta is None else beta) - mean * slope
