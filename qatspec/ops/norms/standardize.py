"""(x - mean) / sqrt(variance + eps) over the input's own statistics, in integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.ir import RANGE, Interval, interval
from qatspec.kinds import BYTES
from qatspec.kinds.norms.kind import MAX_BITS, WIDE, standardize_reach
from qatspec.lowering import Grid, Lowering, ScaledInts
from qatspec.ops.norms.calls import GroupNorm, InstanceNorm, LayerNorm
from qatspec.program.requantize import fit_bias

#: Fraction bits of standardized numbers; bits of the largest of them, at least and at most: half of
#: int32 is the bias's.
_BITS, _LEAST, _MOST = 16, 18, 30
#: Fraction bits of the root of what becomes 8 bits, and of what becomes more.
_ROOT_BITS, _FINE_ROOT_BITS = 12, 16
#: How far eps may be rounded, as a share of the variance: half of that is the error of the result.
_COARSEST = 1 / 256


def standardized(
    lowering: Lowering,
    call: GroupNorm | InstanceNorm | LayerNorm,
    shape: tuple[int, ...],
    planes: tuple[int, ...],
    axis: int,
) -> ScaledInts:
    """Lower (x - mean) / sqrt(variance + eps) * weight + bias.

    lowering  the state of lowering.
    call      the norm's operand, eps and parameters.
    shape     of x, batch left out, in which its last dim is what is normalized.
    planes    of x, batch left out, in which `axis` is the dim of weight and bias.
    axis      counted with the batch as 0.

    Returns integers in the shape of this node's tensor.
    """
    x = lowering.small_integers(call.x)
    sizes, count, eps = lowering.shape()[1:], shape[-1], call.eps
    x = _fine(lowering, x, count, eps)
    x = _reshaped(lowering, x, sizes, shape, "flat")
    grid = lowering.grid()
    root_bits = _ROOT_BITS if grid and grid.dtype in BYTES else _FINE_ROOT_BITS
    bits, root_bits, epsilon, shrunk = _precision(
        count, interval(*RANGE[lowering.dtype(x)]), eps * (count / x.step) ** 2, root_bits
    )
    y = lowering.emit(
        "standardize",
        (x.value,),
        shrunk * 2.0**-bits,
        name=f"{lowering.node.name}.standard",
        axes=(len(shape),),
        epsilon=epsilon,
        bits=bits,
        root_bits=root_bits,
    )
    y = _reshaped(lowering, y, shape, planes, "planes")
    y = _with_parameters(lowering, y, planes[axis - 1], axis, call.weight, call.bias)
    if axis == len(planes) and len(sizes) > axis and grid is not None:
        # several dims were normalized as one, and a scale lies along one dim only
        y = lowering.quantize(y, grid, f"{lowering.node.name}.closed")
    return _reshaped(lowering, y, planes, sizes, "picture")


def _fine(lowering: Lowering, x: ScaledInts, count: int, eps: float) -> ScaledInts:
    """x in 16 bits, exactly, where few numbers are normalized: eps, an integer in units of x's
    squares, would be rounded too coarsely beside the smallest variance, count - 1."""
    if count == 1 or lowering.dtype(x) not in BYTES:
        return x
    epsilon = eps * (count / x.step) ** 2
    if abs(epsilon - round(epsilon)) <= _COARSEST * (count - 1 + epsilon):
        return x
    fine = Grid(x.step / 256, "int16")
    return lowering.quantize(x, fine, f"{lowering.node.name}.fine")


def _reshaped(
    lowering: Lowering, x: ScaledInts, before: tuple[int, ...], after: tuple[int, ...], suffix: str
) -> ScaledInts:
    if before == after:
        return x
    name = f"{lowering.node.name}.{suffix}"
    return lowering.emit_same_scale("reshape", x, name=name, shape=after)


def _precision(
    count: int, x: Interval, epsilon: float, root_bits: int
) -> tuple[int, int, int, float]:
    """(bits, root_bits, epsilon, what the result is too large by) that `bounds` takes.

    An epsilon that int64 cannot hold is far above every variance, and so the only divisor left: it
    is cut, and the result's scale is smaller by the root of what was cut."""
    headroom = WIDE // 4
    attrs = {"bits": _BITS, "root_bits": 0, "epsilon": 0}
    variance = standardize_reach(attrs, count, x).square
    while root_bits > 1 and (variance + epsilon) * 4.0**root_bits >= headroom:
        root_bits -= 1
    kept = min(epsilon, float(max((headroom >> (2 * root_bits)) - variance, 0)))
    shrunk = 1.0 if kept == epsilon else float(np.sqrt(kept / epsilon))
    attrs.update(root_bits=root_bits, epsilon=round(kept))
    reach = standardize_reach(attrs, count, x)
    while attrs["bits"] < MAX_BITS and reach.result < 1 << _LEAST:
        attrs["bits"] += 1
        reach = standardize_reach(attrs, count, x)
    while attrs["bits"] > 0 and (reach.result >= 1 << _MOST or 2 * reach.above >= headroom):
        attrs["bits"] -= 1
        reach = standardize_reach(attrs, count, x)
    return attrs["bits"], root_bits, attrs["epsilon"], shrunk


def _with_parameters(
    lowering: Lowering, y: ScaledInts, size: int, axis: int, gamma: Any, beta: Any
) -> ScaledInts:
    """gamma * y + beta: gamma's size goes into the scale, its sign and beta into an affine op."""
    if gamma is None and beta is None:
        return y
    gamma, beta = lowering.constant(gamma), lowering.constant(beta)
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
    )
