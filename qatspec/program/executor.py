"""The fast executor: torch's float kernels, exact by construction, equal to the interpreter.

Every value travels in a float tensor that holds its whole proven interval exactly (`bounds`):
float32 below 2^24, float64 below 2^53. A sum of integer products whose partial sums all stay below
that is exact in any order, with or without fused multiply-add, so torch may use its fastest kernel.
Kernels that transform their data (NNPACK's Winograd) are switched off; requantization is done in
float64, where products with the multipliers are below 2^53.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.program.bounds import EXACT32, ranges
from qatspec.program.interp import bilinear_taps, nearest_index
from qatspec.program.model import RANGE, STORAGE, Op, Program
from qatspec.program.ports import check_inputs

Step = Callable[..., Tensor]
#: (name of an op's result, its integers in a float tensor) -> what the ops behind it are given
Watch = Callable[[str, Tensor], Tensor]

#: Requantization works through blocks of about this many elements, so that its float64 temporaries
#: stay in the cache (measured: a third of the time of whole tensors of 6 million elements).
BLOCK = 1 << 18


class Executor:
    """A Program made ready to run: weights as tensors, one closure an op, values freed early."""

    def __init__(self, program: Program) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self._ranges = ranges(program)
        self._program = program
        last = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
        kept = {port.name for port in program.outputs}
        self._steps: list[tuple[Step, tuple[str, ...], str, tuple[str, ...]]] = []
        for i, op in enumerate(program.ops):
            live = tuple(name for name in op.inputs if name not in program.consts)
            done = tuple(dict.fromkeys(n for n in live if last[n] == i and n not in kept))
            self._steps.append((_BUILD[op.kind](self, op), live, op.output, done))

    def run(self, ints: Sequence[np.ndarray], watch: Watch | None = None) -> list[np.ndarray]:
        """Integers in, integers out, as `interpret`. Raises DiagnosticError QS712.

        watch: sees each op's result, and may put other integers of the same range in its place."""
        values: dict[str, Tensor] = {}
        arrays = check_inputs(self._program, ints)
        with torch.inference_mode(), torch.backends.nnpack.flags(enabled=False):
            for port, array in zip(self.inputs, arrays, strict=True):
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                values[port.name] = tensor.to(self.carrier(port.name))
            for step, operands, output, done in self._steps:
                result = step(*[values[name] for name in operands])
                values[output] = result if watch is None else watch(output, result)
                for name in done:
                    del values[name]
            return [
                values[port.name].numpy().astype(STORAGE[port.dtype], order="C")
                for port in self.outputs
            ]

    def carrier(self, name: str) -> torch.dtype:
        """The float dtype that holds every integer `name` can be."""
        return torch.float32 if self._ranges[name].magnitude < EXACT32 else torch.float64

    def const(self, name: str, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(self._program.consts[name])).to(dtype)

    def shape(self, name: str) -> tuple[int, ...]:
        return self._program.values[name].shape

    def dtype(self, name: str) -> str:
        return self._program.values[name].dtype


_EXECUTORS: weakref.WeakKeyDictionary[Program, Executor] = weakref.WeakKeyDictionary()


def execute(program: Program, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run `program`; its Executor is built once and lives as long as the program does."""
    executor = _EXECUTORS.get(program)
    if executor is None:
        executor = _EXECUTORS[program] = Executor(program)
    return executor.run(ints)


# -- sums of products --------------------------------------------------------------------------


def _accumulating(ex: Executor, op: Op) -> tuple[torch.dtype, Tensor, Tensor | None]:
    carrier = ex.carrier(op.output)
    bias = ex.const(op.inputs[2], carrier) if len(op.inputs) == 3 else None
    return carrier, ex.const(op.inputs[1], carrier), bias


def _conv(ex: Executor, op: Op) -> Step:
    carrier, w, b = _accumulating(ex, op)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, groups = tuple(a["stride"]), tuple(a["dilation"]), a["groups"]
    even = (top, left) == (bottom, right)

    def step(x: Tensor) -> Tensor:
        x = x.to(carrier)
        if not even:
            x = F.pad(x, (left, right, top, bottom))
        return F.conv2d(x, w, b, stride, (top, left) if even else 0, dilation, groups)

    return step


def _conv_transpose(ex: Executor, op: Op) -> Step:
    carrier, w, b = _accumulating(ex, op)
    a = op.attrs
    top, left, bottom, right = a["padding"]
    stride, dilation, extra = tuple(a["stride"]), tuple(a["dilation"]), tuple(a["output_padding"])

    def step(x: Tensor) -> Tensor:
        y = F.conv_transpose2d(x.to(carrier), w, b, stride, 0, extra, a["groups"], dilation)
        return y[:, :, top : y.shape[2] - bottom, left : y.shape[3] - right]

    return step


def _linear(ex: Executor, op: Op) -> Step:
    carrier, w, b = _accumulating(ex, op)
    return lambda x: F.linear(x.to(carrier), w, b)


def _mul(ex: Executor, op: Op) -> Step:
    carrier = ex.carrier(op.output)
    return lambda x, y: x.to(carrier) * y.to(carrier)


# -- requantization ----------------------------------------------------------------------------


def _requant(ex: Executor, op: Op) -> Step:
    """sum x * (m / 2^s) + 1/2, floor: each step is exact in float64 (verify proves the bound)."""
    terms, a = len(op.inputs) // 2, op.attrs
    carrier = ex.carrier(op.output)
    rank, axis = len(ex.shape(op.inputs[0])) + 1, a["axis"]
    unit = torch.exp2(-ex.const(op.inputs[-1], torch.float64))

    def factor(name: str) -> Tensor:
        m = ex.const(name, torch.float64) * unit
        return m.reshape([-1 if d == axis else 1 for d in range(rank)]) if rank > 1 else m

    factors = [factor(name) for name in op.inputs[terms : 2 * terms]]
    low, high, rounding = float(a["low"]), float(a["high"]), a["rounding"]

    def block(xs: Sequence[Tensor], ms: Sequence[Tensor], out: Tensor) -> None:
        v = xs[0].to(torch.float64, copy=True).mul_(ms[0])
        for x, m in zip(xs[1:], ms[1:], strict=True):
            v.add_(x.to(torch.float64, copy=True).mul_(m))
        if rounding == "half_up":
            v.add_(0.5)
        v = v.round_() if rounding == "half_even" else v.floor_()
        out.copy_(v).clamp_(low, high)  # rounding to the carrier is monotone: the clamp stays exact

    def step(*xs: Tensor) -> Tensor:
        out = torch.empty(xs[0].shape, dtype=carrier)
        if out.numel() <= BLOCK or out.ndim < 3:
            block(xs, factors, out)
            return out
        channels = max(BLOCK // out[0, 0].numel(), 1)
        for n in range(out.shape[0]):
            for c in range(0, out.shape[1], channels):
                at = slice(n, n + 1), slice(c, c + channels)
                ms = [m if m.shape[1] == 1 else m[:, at[1]] for m in factors]
                block([x[at] for x in xs], ms, out[at])
        return out

    return step


def _clamp(ex: Executor, op: Op) -> Step:
    low, high = float(op.attrs["low"]), float(op.attrs["high"])
    return lambda x: x.clamp(low, high)


# -- pools and reductions ----------------------------------------------------------------------


def _padded(x: Tensor, padding: Sequence[int], value: float) -> Tensor:
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def _max_pool(ex: Executor, op: Op) -> Step:
    a, lowest = op.attrs, float(RANGE[ex.dtype(op.output)][0])
    kernel, stride, dilation = tuple(a["kernel"]), tuple(a["stride"]), tuple(a["dilation"])
    return lambda x: F.max_pool2d(
        _padded(x, a["padding"], lowest), kernel, stride, dilation=dilation
    )


def _sum_pool(ex: Executor, op: Op) -> Step:
    a, carrier = op.attrs, ex.carrier(op.output)
    kernel, stride = tuple(a["kernel"]), tuple(a["stride"])
    return lambda x: F.avg_pool2d(
        _padded(x.to(carrier), a["padding"], 0.0), kernel, stride, divisor_override=1
    )


def _reduce_sum(ex: Executor, op: Op) -> Step:
    axes, keep, carrier = list(op.attrs["axes"]), op.attrs["keepdim"], ex.carrier(op.output)
    return lambda x: x.to(carrier).sum(axes, keepdim=keep)


def _reduce_max(ex: Executor, op: Op) -> Step:
    axes, keep = list(op.attrs["axes"]), op.attrs["keepdim"]
    return lambda x: x.amax(axes, keepdim=keep)


# -- resizes -----------------------------------------------------------------------------------


def _resize_nearest(ex: Executor, op: Op) -> Step:
    sizes = zip(ex.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    rows, cols = (torch.from_numpy(nearest_index(s, o)) for s, o in sizes)
    return lambda x: x.index_select(2, rows).index_select(3, cols)


def _resize_bilinear(ex: Executor, op: Op) -> Step:
    a, carrier = op.attrs, ex.carrier(op.output)
    axes = []
    for axis, out in zip((2, 3), a["size"], strict=True):
        size = ex.shape(op.inputs[0])[axis - 1]
        low, high, w = bilinear_taps(size, out, a["align_corners"], a["bits"])
        weight = torch.from_numpy(w).to(carrier).reshape((-1, 1) if axis == 2 else (1, -1))
        axes.append((axis, torch.from_numpy(low), torch.from_numpy(high), weight))
    one = float(1 << a["bits"])

    def step(x: Tensor) -> Tensor:
        x = x.to(carrier)
        for axis, low, high, w in axes:
            x = x.index_select(axis, low) * (one - w) + x.index_select(axis, high) * w
        return x

    return step


# -- moves -------------------------------------------------------------------------------------


def _concat(ex: Executor, op: Op) -> Step:
    axis, carrier = op.attrs["axis"], ex.carrier(op.output)
    return lambda *xs: torch.cat([x.to(carrier) for x in xs], axis)


def _reshape(ex: Executor, op: Op) -> Step:
    shape = tuple(op.attrs["shape"])
    return lambda x: x.reshape(x.shape[0], *shape)


def _transpose(ex: Executor, op: Op) -> Step:
    perm = tuple(op.attrs["perm"])
    return lambda x: x.permute(perm)


def _slice(ex: Executor, op: Op) -> Step:
    a = op.attrs
    at = (slice(None),) * a["axis"] + (slice(a["start"], a["stop"], a["step"]),)
    return lambda x: x[at]


def _pad(ex: Executor, op: Op) -> Step:
    value = float(op.attrs["value"])
    return lambda x: _padded(x, op.attrs["padding"], value)


def _lut(ex: Executor, op: Op) -> Step:
    table, lowest = ex.const(op.inputs[1], ex.carrier(op.output)), RANGE[ex.dtype(op.inputs[0])][0]
    return lambda x: table[(x - lowest).to(torch.int64)]


_BUILD: dict[str, Callable[[Executor, Op], Step]] = {
    "conv": _conv,
    "conv_transpose": _conv_transpose,
    "linear": _linear,
    "requant": _requant,
    "mul": _mul,
    "clamp": _clamp,
    "max_pool": _max_pool,
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
    "lut": _lut,
}
