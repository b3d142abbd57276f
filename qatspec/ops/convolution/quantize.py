"""Convolutions and linear layers in integers: fused groups begin with them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from torch import fx

from qatspec.diag.codes import QS702
from qatspec.graph.context import GraphContext
from qatspec.ir import DType
from qatspec.lowering import (
    Lowering,
    ScaledInts,
    as_channels,
    joined,
    padded,
    planes,
    transposed_taps,
    window_taps,
)
from qatspec.program.requantize import fit_bias
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import QuantOp, is_weight_quantized
from qatspec.types import Annotation, Float


def annotate(node: fx.Node, context: GraphContext) -> Annotation:
    """A weight scale per output channel, a range of its own, and possibly an int32 output."""
    if context.module(node) is None:
        return Annotation(output=Float("its weight is computed from the input"))
    return Annotation(kind="anchor", has_weight=True, int32_tail=True)


def lower(node: fx.Node, lowering: Lowering) -> ScaledInts:
    """Integer conv with an int32 bias; its accumulator has scale x * weight per channel."""
    module = lowering.context.quant_op(node)
    if module is None:
        lowering.fail(*_without_integers(node, lowering.context), QS702)
    geometry = module.geometry
    x = lowering.small_integers(node.args[0])
    weight, w_scale, bias = _integers(module, [lowering.constant(a) for a in node.args[1:]])
    scale = x.step * w_scale
    levels = None
    if bias is not None:
        step, levels = fit_bias(scale, bias)
        scale = scale * step
        steps = geometry.per_channel(torch.from_numpy(step), torch.from_numpy(weight)).numpy()
        weight = np.rint(weight / steps)
    geometry, weight, scale, levels = _for_pictures(lowering, x, geometry, weight, scale, levels)
    operands = [] if levels is None else [lowering.const("bias", "int32", levels)]
    dtype = cast("DType", module.weight_fake_quant.qspec.dtype.removeprefix("q"))
    if geometry.op == "linear":
        name = lowering.const("weight", dtype, weight)
        axis = len(lowering.shape()) - 1
        return lowering.emit("linear", (x.value, name, *operands), scale, scale_axis=axis)
    dims = int(geometry.op[-2])
    if len(lowering.shape()) != dims + 2:
        lowering.fail("its input has no batch", "give it (N, C, ...) tensors")
    padding = geometry.pad
    if geometry.padding_mode != "zeros":
        x = padded(lowering, x, padding, geometry.padding_mode)
        padding = (0,) * len(padding)
    picture = _Picture.of(geometry, padding, scale, operands)
    if dims == 3:
        return _unrolled(lowering, x, geometry, padding, weight, dtype, picture)
    if dims == 2:
        return picture.conv(lowering, x, lowering.const("weight", dtype, weight), node.name)
    channels, length = lowering.value_shape(x)  # one row of a picture
    x = lowering.emit_same_scale("reshape", x, name=f"{node.name}.row", shape=(channels, 1, length))
    name = lowering.const("weight", dtype, weight[:, :, None, :])
    y = picture.conv(lowering, x, name, f"{node.name}.sum")
    shape = (lowering.value_shape(y)[0], *lowering.shape()[2:])
    return lowering.emit_same_scale("reshape", y, shape=shape)


def _for_pictures(
    lowering: Lowering,
    x: ScaledInts,
    geometry: Geometry,
    weight: np.ndarray,
    scale: np.ndarray,
    levels: np.ndarray | None,
) -> tuple[Geometry, np.ndarray, np.ndarray, np.ndarray | None]:
    """(geometry, weight, scale, bias) where the channels of x are those of several pictures
    (`qatspec.lower.pictures`): each is a group with the same weights."""
    if geometry.op == "linear":
        return geometry, weight, scale, levels
    channels = weight.shape[0] if geometry.transposed else weight.shape[1] * geometry.groups
    count = max(lowering.value_shape(x)[0] // channels, 1)
    if count == 1:
        return geometry, weight, scale, levels
    return (
        replace(geometry, groups=geometry.groups * count),
        np.tile(weight, (count, *[1] * (weight.ndim - 1))),
        np.tile(scale, count),
        None if levels is None else np.tile(levels, count),
    )


@dataclass(frozen=True, slots=True)
class _Picture:
    """A convolution over height and width, which are the last two dims. scale: of its result, per
    channel. operands: the bias, if there is one."""

    kind: str
    scale: np.ndarray
    operands: list[str]
    attrs: dict[str, Any]

    @classmethod
    def of(
        cls, geometry: Geometry, pad: tuple[int, ...], scale: np.ndarray, operands: list[str]
    ) -> _Picture:
        left, right, top, bottom = (*pad, 0, 0)[:4]
        attrs: dict[str, Any] = {
            "stride": (1, *geometry.stride)[-2:],
            "padding": (top, left, bottom, right),
            "dilation": (1, *geometry.dilation)[-2:],
            "groups": geometry.groups,
        }
        if geometry.transposed:
            attrs["output_padding"] = (0, *geometry.output_padding)[-2:]
        return cls("conv_transpose" if geometry.transposed else "conv", scale, operands, attrs)

    def conv(self, lowering: Lowering, x: ScaledInts, weight: str, name: str) -> ScaledInts:
        operands = (x.value, weight, *self.operands)
        return lowering.emit(self.kind, operands, self.scale, scale_axis=1, name=name, **self.attrs)


def _unrolled(
    lowering: Lowering,
    x: ScaledInts,
    geometry: Geometry,
    padding: tuple[int, ...],
    weight: np.ndarray,
    dtype: DType,
    picture: _Picture,
) -> ScaledInts:
    """A 3-d convolution as one 2-d convolution for each output depth, over the planes it reads."""
    find = transposed_taps if geometry.transposed else window_taps
    taps = find(
        lowering.value_shape(x)[1], lowering.shape()[2],
        weight.shape[2], geometry.stride[0], geometry.dilation[0], padding[4],
    )  # fmt: skip
    weights: dict[tuple[int, ...], str] = {}
    results = []
    for depth_taps in taps:
        kernel = tuple(k for _, k in depth_taps)
        if kernel not in weights:
            flat = _flat(weight, kernel, geometry.transposed)
            weights[kernel] = lowering.const("weight", dtype, flat)
        channels = as_channels(lowering, planes(lowering, x, depth_taps or ((0, 0),)))
        name = f"{lowering.node.name}.sum"
        results.append(picture.conv(lowering, channels, weights[kernel], name))
    return joined(lowering, results)


def _flat(weight: np.ndarray, kernel: tuple[int, ...], transposed: bool) -> np.ndarray:
    """The planes `kernel` of a 3-d weight as a 2-d weight whose inputs are channels times planes.
    Where a depth reads padding alone, zeros: its result is the bias."""
    part: np.ndarray = weight[:, :, list(kernel)] if kernel else 0 * weight[:, :, :1]
    if transposed:  # (I, O/g, K, kh, kw) -> (I * K, O/g, kh, kw)
        part = part.swapaxes(1, 2).reshape(-1, weight.shape[1], *weight.shape[3:])
    else:
        part = part.reshape(weight.shape[0], -1, *weight.shape[3:])
    return part


def _without_integers(node: fx.Node, context: GraphContext) -> tuple[str, str]:
    """Why a weight has no integers, and the way out."""
    owner = context.root.get_submodule(str(node.meta.get("owner", "")))
    holder = context.module(node) or owner
    if not is_weight_quantized(holder):
        return (
            "its weight is not quantized: a rule or the list of modules leaves it in float",
            "remove the `null` rule that matches it, take the module around it out of "
            "`non_traceable_module_name` and `non_traceable_module_class`, or leave the whole "
            "module unprepared",
        )
    return (
        f"`{type(holder).__name__}` is not torch's conv or linear with its weight fake-quantized",
        "derive the class from torch's, and let forward compute what torch's does with "
        "`self.weight_fake_quant(self.weight)`, one scale an output channel, and with `self.bias`",
    )


def _integers(
    module: QuantOp, arguments: list[torch.Tensor]
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(weight integers, its scale float64 (O,), the real bias or None), folded."""
    with torch.no_grad():
        levels, scale = module.quantized_weight(*arguments)
        bias = module.folded(*arguments)[1]
    real = None if bias is None else bias.detach().numpy().astype(np.float64)
    return levels.numpy().astype(np.float64), scale.numpy().astype(np.float64), real
