"""The referee: numpy, int64 inside, every op as its definition reads. No floats, but in the
requantization that is defined by float32.

Everything else that runs a Program (executor, ONNX, compiled bins) is right if it equals this.
Speed is no aim here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qatspec.ir import RANGE, STORAGE, Op, ProgramData, check_inputs
from qatspec.referee import resizes, statistics
from qatspec.referee.requantization import requant

Attrs = Mapping[str, Any]
Ints = NDArray[np.int64]


def interpret(program: ProgramData, *ints: np.ndarray) -> list[np.ndarray]:
    """Compute a Program by its definition: the referee, which shares no code with what it judges.

    program  the Program.
    ints     an array of integers for each input port, in order: (N, *shape of the port), of the
             port's dtype.

    Returns an array (N, *shape) for each output port, in order. Raises DiagnosticError QS712 on
    arrays that do not fit the ports.
    """
    values = interpret_all(program, *ints)
    return [values[port.name] for port in program.outputs]


def interpret_all(program: ProgramData, *ints: np.ndarray) -> dict[str, np.ndarray]:
    """Every value of the program by name, constants included, in its storage dtype."""
    values: dict[str, np.ndarray] = dict(program.consts)
    for port, array in zip(program.inputs, check_inputs(program, ints), strict=True):
        values[port.name] = array
    for op in program.ops:
        operands = [values[name].astype(np.int64) for name in op.inputs]
        dtype = program.values[op.output].dtype
        low, high = RANGE[dtype]
        result = evaluate(op, operands, program.values[op.inputs[0]].dtype)
        if result.min() < low or result.max() > high:
            raise OverflowError(f"`{op.output}` leaves {dtype}")  # verify proves it cannot
        values[op.output] = result.astype(STORAGE[dtype])
    return values


def evaluate(op: Op, operands: list[Ints], dtype: str) -> Ints:
    """One op on int64 arrays with the batch in front. dtype: the first operand's."""
    if op.kind in ("max_pool", "lut"):
        return _WITH_LOWEST[op.kind](op.attrs, RANGE[dtype][0], *operands)
    return _EVALUATE[op.kind](op.attrs, *operands)


# -- sums of products --------------------------------------------------------------------------


def _pad_hw(x: Ints, padding: Any, value: int) -> Ints:
    top, left, bottom, right = padding
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)


def _windows(x: Ints, kernel: Any, stride: Any, dilation: Any) -> Ints:
    """(N, C, H, W) -> (N, C, h, w, kh, kw): what each output position sees."""
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    view = np.lib.stride_tricks.sliding_window_view(x, reach, axis=(2, 3))
    windows: Ints = view[:, :, :: stride[0], :: stride[1], :: dilation[0], :: dilation[1]]
    return windows


def _conv(a: Attrs, x: Ints, w: Ints, b: Ints | None = None) -> Ints:
    view = _windows(_pad_hw(x, a["padding"], 0), w.shape[2:], a["stride"], a["dilation"])
    groups = [
        np.tensordot(xs, ws, axes=((1, 4, 5), (1, 2, 3)))  # (N, h, w, O/g)
        for xs, ws in zip(np.split(view, a["groups"], 1), np.split(w, a["groups"], 0), strict=True)
    ]
    y: Ints = np.concatenate(groups, 3).transpose(0, 3, 1, 2)
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def _conv_transpose(a: Attrs, x: Ints, w: Ints, b: Ints | None = None) -> Ints:
    """Each input position adds its value times the kernel into the output."""
    n, channels, height, width = x.shape
    per_group, (kh, kw), (sh, sw), (dh, dw) = w.shape[1], w.shape[2:], a["stride"], a["dilation"]
    top, left, bottom, right = a["padding"]
    eh, ew = a["output_padding"]
    full_h = (height - 1) * sh + dh * (kh - 1) + 1 + eh
    full_w = (width - 1) * sw + dw * (kw - 1) + 1 + ew
    y = np.zeros((n, per_group * a["groups"], full_h, full_w), np.int64)
    step = channels // a["groups"]
    for g in range(a["groups"]):
        xs, ws = x[:, g * step : (g + 1) * step], w[g * step : (g + 1) * step]
        out = y[:, g * per_group : (g + 1) * per_group]
        for i in range(kh):
            for j in range(kw):
                rows = slice(i * dh, i * dh + (height - 1) * sh + 1, sh)
                cols = slice(j * dw, j * dw + (width - 1) * sw + 1, sw)
                out[:, :, rows, cols] += np.einsum("nchw,co->nohw", xs, ws[:, :, i, j])
    y = y[:, :, top : full_h - bottom, left : full_w - right]
    return y if b is None else y + b.reshape(1, -1, 1, 1)


def _linear(a: Attrs, x: Ints, w: Ints, b: Ints | None = None) -> Ints:
    y: Ints = x @ w.T
    return y if b is None else y + b


def _mul(a: Attrs, x: Ints, y: Ints) -> Ints:
    return x * y


def _clamp(a: Attrs, x: Ints) -> Ints:
    return np.clip(x, a["low"], a["high"])


# -- pools and reductions ----------------------------------------------------------------------


def _max_pool(a: Attrs, lowest: int, x: Ints) -> Ints:
    padded = _pad_hw(x, a["padding"], lowest)
    return np.asarray(_windows(padded, a["kernel"], a["stride"], a["dilation"]).max((4, 5)))


def _sum_pool(a: Attrs, x: Ints) -> Ints:
    padded = _pad_hw(x, a["padding"], 0)
    return np.asarray(_windows(padded, a["kernel"], a["stride"], (1, 1)).sum((4, 5)))


def _reduce_sum(a: Attrs, x: Ints) -> Ints:
    return np.asarray(x.sum(tuple(a["axes"]), keepdims=a["keepdim"]))


def _reduce_max(a: Attrs, x: Ints) -> Ints:
    return np.asarray(x.max(tuple(a["axes"]), keepdims=a["keepdim"]))


# -- resizes -----------------------------------------------------------------------------------


def _resize_nearest(a: Attrs, x: Ints) -> Ints:
    rows, cols = (resizes.nearest(s, o) for s, o in zip(x.shape[2:], a["size"], strict=True))
    return x[:, :, rows][:, :, :, cols]


def _resize_bilinear(a: Attrs, x: Ints) -> Ints:
    one = 1 << a["bits"]
    for axis, out in zip((2, 3), a["size"], strict=True):
        low, high, w = resizes.bilinear(x.shape[axis], out, a["align_corners"], a["bits"])
        w = w.reshape((-1, 1) if axis == 2 else (1, -1))
        x = x.take(low, axis) * (one - w) + x.take(high, axis) * w
    return x


# -- moves -------------------------------------------------------------------------------------


def _concat(a: Attrs, *xs: Ints) -> Ints:
    return np.concatenate(xs, a["axis"])


def _reshape(a: Attrs, x: Ints) -> Ints:
    return x.reshape(x.shape[0], *a["shape"])


def _transpose(a: Attrs, x: Ints) -> Ints:
    return np.asarray(x.transpose(a["perm"]))


def _slice(a: Attrs, x: Ints) -> Ints:
    return x.take(range(a["start"], a["stop"], a["step"]), a["axis"])


def _pad(a: Attrs, x: Ints) -> Ints:
    return _pad_hw(x, a["padding"], a["value"])


def _lut(a: Attrs, lowest: int, x: Ints, *table: Ints) -> Ints:
    return statistics.looked_up(a, x - lowest, *table)


_EVALUATE: dict[str, Callable[..., Ints]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "requant": requant,
    "mul": _mul,
    "clamp": _clamp,
    "sum_pool": _sum_pool,
    "reduce_sum": _reduce_sum,
    "reduce_max": _reduce_max,
    "resize_nearest": _resize_nearest,
    "resize_bilinear": _resize_bilinear,
    "concat": _concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "slice": _slice,
    "pad": _pad,
    **statistics.EVALUATE,
}
_WITH_LOWEST: dict[str, Callable[..., Ints]] = {"max_pool": _max_pool, "lut": _lut}
