"""Normalizations that were not folded into a conv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from qatspec.graph.context import GraphContext
from qatspec.ir import RANGE, Interval, interval
from qatspec.kinds.norms.kind import MAX_BITS, WIDE, standardize_reach
from qatspec.program.lowered import Sum, Term
from qatspec.program.requantize import fit_bias
from qatspec.types import Annotation, Observed

if TYPE_CHECKING:
    from qatspec.lower.context import Lowering


def annotate_batch_norm(node: fx.Node, context: GraphContext) -> Annotation:
    """A batch norm that stands alone is a scale and a shift per channel."""
    return Annotation(output=Observed())


def annotate_own_statistics(node: fx.Node, context: GraphContext) -> Annotation:
    """Norms over the input's own statistics: a range of its own."""
    return Annotation(output=Observed())


#: Fraction bits of a batch norm's unit weight, so that its bias is rounded finely.
_UNIT = 64


#: What a norm has, in the order of F.batch_norm.
_NAMES = ("running_mean", "running_var", "weight", "bias")


def lower_batch_norm(node: fx.Node, lowering: Lowering) -> Sum:
    """By running statistics, which are the module's own or come behind x."""
    module: Any = lowering.context.module(node)
    if module is None:  # in a module that is not entered by name or by class
        told = _told(node, lowering, node.target is torch.batch_norm, "training")
        given = [None if told["training"] else told[name] for name in _NAMES]
        return _by_running(node, lowering, given, told["eps"])
    if len(node.args) > 1:
        given = [lowering.constant(a) for a in (*node.args[1:], None, None)][:4]
    else:
        given = [getattr(module, name, None) for name in _NAMES]
    return _by_running(node, lowering, given, module.eps)


def _by_running(node: fx.Node, lowering: Lowering, given: Sequence[Any], eps: float) -> Sum:
    """A depthwise 1x1 conv with weights of +-64: the scale is the norm's, the bias int32. given:
    mean, variance, gamma, beta."""
    x = lowering.integer(node.args[0])
    slope, offset = _affine(lowering, given, eps)
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


def _affine(lowering: Lowering, given: Sequence[Any], eps: float) -> tuple[np.ndarray, np.ndarray]:
    """(slope, offset) per channel, float64."""
    mean, variance, gamma, beta = (
        None if tensor is None else tensor.detach().double().numpy() for tensor in given
    )
    if mean is None or variance is None:
        lowering.fail(
            "a norm without running statistics has no integer form",
            "put it directly behind a convolution, where it is folded",
        )
    slope = (1.0 if gamma is None else gamma) / np.sqrt(variance + eps)
    return slope, (0.0 if beta is None else beta) - mean * slope


# -- norms over the input's own statistics -----------------------------------------------------

#: Fraction bits of standardized numbers; bits of the largest of them, at least and at most: half of
#: int32 is the bias's.
_BITS, _LEAST, _MOST = 16, 18, 30
#: Fraction bits of the root of what becomes 8 bits, and of what becomes more.
_ROOT_BITS, _FINE_ROOT_BITS = 12, 16
#: How far eps may be rounded, as a share of the variance: half of that is the error of the result.
_COARSEST = 1 / 256


def lower_layer_norm(node: fx.Node, lowering: Lowering) -> Sum:
    """Over the last dims, which are one while it is computed."""
    names = ("normalized_shape", "weight", "bias", "eps")
    sizes, gamma, beta, eps = _settings(node, lowering, *names)
    shape = lowering.shape()
    size = prod(sizes)
    flat = (*shape[1 : len(shape) - len(sizes)], size)
    if not flat[:-1] and len(shape) == len(sizes):
        lowering.fail("it normalizes over the batch", "leave the batch out of normalized_shape")
    return _standardized(node, lowering, flat, (len(flat),), eps, (gamma, beta), flat, len(flat))


def lower_group_norm(node: fx.Node, lowering: Lowering) -> Sum:
    """Over a group's channels and pixels."""
    names = ("num_groups", "weight", "bias", "eps")
    groups, gamma, beta, eps = _settings(node, lowering, *names)
    channels, *sizes = lowering.shape()[1:]
    grouped = (int(groups), channels // int(groups) * prod(sizes))
    planes = (channels, prod(sizes))
    return _standardized(node, lowering, grouped, (2,), eps, (gamma, beta), planes, 1)


def lower_instance_norm(node: fx.Node, lowering: Lowering) -> Sum:
    """Over a channel's pixels, or by running statistics where it keeps them."""
    module: Any = lowering.context.module(node)
    if module is None:
        torchs = node.target is torch.instance_norm
        given = _told(node, lowering, torchs, "use_input_stats")
        own, eps = given["use_input_stats"], given["eps"]
    else:
        given = {name: getattr(module, name) for name in _NAMES}
        own, eps = given["running_mean"] is None, module.eps
    if not own:
        return _by_running(node, lowering, [given[name] for name in _NAMES], eps)
    gamma, beta = given["weight"], given["bias"]
    channels, *sizes = lowering.shape()[1:]
    planes = (channels, prod(sizes))
    return _standardized(node, lowering, planes, (2,), eps, (gamma, beta), planes, 1)


#: Defaults of what a functional norm is not given.
_DEFAULTS = {"eps": 1e-5, "use_input_stats": True, "training": False}


def _told(node: fx.Node, lowering: Lowering, torchs: bool, flag: str) -> dict[str, Any]:
    """What a functional norm with running statistics is told behind x. torchs: it is that of
    `torch`, whose order is another than that of torch.nn.functional. flag: the name of what says
    whether it takes the statistics of the batch."""
    order = _NAMES[2:] + _NAMES[:2] if torchs else _NAMES
    names = (*order, flag, "momentum", "eps")
    return dict(zip(names, _settings(node, lowering, *names), strict=True))


def _settings(node: fx.Node, lowering: Lowering, *names: str) -> list[Any]:
    """What a norm is told behind x, in the order of its function: parameters as tensors."""
    setting = lowering.context.setting
    found = [lowering.constant(setting(node, i, name)) for i, name in enumerate(names, 1)]
    pairs = zip(names, found, strict=True)
    return [_DEFAULTS.get(name) if value is None else value for name, value in pairs]


def _standardized(
    node: fx.Node,
    lowering: Lowering,
    shape: tuple[int, ...],
    axes: tuple[int, ...],
    eps: float,
    parameters: tuple[Any, Any],
    planes: tuple[int, ...],
    axis: int,
) -> Sum:
    """(x - mean) / sqrt(variance + eps) over `axes` of x in `shape`; gamma and beta along `axis` of
    it in `planes`. All three count the batch as dim 0, shapes leave it out."""
    x = lowering.integer(node.args[0])
    own, count = lowering.shape()[1:], prod(shape[a - 1] for a in axes)
    x = _fine(lowering, x, count, eps)
    x = _reshaped(lowering, x, own, shape, "flat")
    target = lowering.target()
    root_bits = _ROOT_BITS if target and target.dtype in ("int4", "int8") else _FINE_ROOT_BITS
    bits, root_bits, epsilon, shrunk = _precision(
        count, interval(*RANGE[lowering.dtype(x)]), eps * (count / x.step) ** 2, root_bits
    )
    y = lowering.emit(
        "standardize",
        (x.value,),
        shrunk * 2.0**-bits,
        name=f"{node.name}.standard",
        axes=axes,
        epsilon=epsilon,
        bits=bits,
        root_bits=root_bits,
    ).terms[0]
    y = _reshaped(lowering, y, shape, planes, "planes")
    y = _with_parameters(lowering, y, planes[axis - 1], axis, *parameters)
    if axis == len(planes) and len(own) > axis and target is not None:
        # several dims were normalized as one, and scales along several there are not
        y = lowering.quantize(Sum((y,)), target, f"{node.name}.closed").terms[0]
    return Sum((_reshaped(lowering, y, planes, own, "picture"),))


def _fine(lowering: Lowering, x: Term, count: int, eps: float) -> Term:
    """x in 16 bits, exactly, where few numbers are normalized: eps, an integer in units of x's
    squares, would be rounded too coarsely beside the smallest variance, count - 1."""
    if count == 1 or lowering.dtype(x) not in ("int4", "int8"):
        return x
    epsilon = eps * (count / x.step) ** 2
    if abs(epsilon - round(epsilon)) <= _COARSEST * (count - 1 + epsilon):
        return x
    fine = replace(lowering.whole, scale=x.step / 256, dtype="int16")
    return lowering.quantize(Sum((x,)), fine, f"{lowering.node.name}.fine").terms[0]


def _reshaped(
    lowering: Lowering, x: Term, before: tuple[int, ...], after: tuple[int, ...], suffix: str
) -> Term:
    if before == after:
        return x
    name = f"{lowering.node.name}.{suffix}"
    return lowering.keep("reshape", x, name=name, shape=after).terms[0]


def _precision(
    count: int, x: Interval, epsilon: float, root_bits: int
) -> tuple[int, int, int, float]:
    """(bits, root_bits, epsilon, what the result is too large by) that `bounds` takes.

    An epsilon that int64 cannot hold is far above every variance, and so the only divisor left: it
    is cut, and the result's scale is smaller by the root of what was cut."""
    room = WIDE // 4
    attrs = {"bits": _BITS, "root_bits": 0, "epsilon": 0}
    variance = standardize_reach(attrs, count, x).square
    while root_bits > 1 and (variance + epsilon) * 4.0**root_bits >= room:
        root_bits -= 1
    kept = min(epsilon, float(max((room >> (2 * root_bits)) - variance, 0)))
    shrunk = 1.0 if kept == epsilon else float(np.sqrt(kept / epsilon))
    attrs.update(root_bits=root_bits, epsilon=round(kept))
    reach = standardize_reach(attrs, count, x)
    while attrs["bits"] < MAX_BITS and reach.result < 1 << _LEAST:
        attrs["bits"] += 1
        reach = standardize_reach(attrs, count, x)
    while attrs["bits"] > 0 and (reach.result >= 1 << _MOST or 2 * reach.above >= room):
        attrs["bits"] -= 1
        reach = standardize_reach(attrs, count, x)
    return attrs["bits"], root_bits, attrs["epsilon"], shrunk


def _with_parameters(
    lowering: Lowering, y: Term, size: int, axis: int, gamma: Any, beta: Any
) -> Term:
    """gamma * y + beta: gamma's size goes into the scale, its sign and beta into an affine op."""
    if gamma is None and beta is None:
        return y
    slope = np.ones(size) if gamma is None else gamma.detach().double().numpy().reshape(-1)
    shift = np.zeros(size) if beta is None else beta.detach().double().numpy().reshape(-1)
    scale = y.step * np.maximum(np.abs(slope), np.finfo(np.float32).tiny)
    step, bias = fit_bias(scale, shift)
    weight = np.rint(np.sign(slope) / step)
    names = (lowering.const("weight", "int8", weight), lowering.const("bias", "int32", bias))
    return lowering.emit(
        "affine",
        (y.value, *names),
        scale * step,
        scale_axis=axis,
        name=f"{lowering.node.name}.affine",
        axis=axis,
    ).terms[0]
