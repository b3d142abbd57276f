"""Which float tensor carries which integer value, and the settings under which torch's float
kernels are exact on integers.

A float tensor holds every integer below 2^24 (float32) or 2^53 (float64). A sum of products of
integers whose partial sums all stay below that is exact in any order, with or without fused
multiply-add: every intermediate result is an integer that the dtype holds. `bounds` proves it from
the weights. What is left to exclude are kernels that compute something else: transformed data
(Winograd) and products of fewer bits.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from qatspec.program.bounds import EXACT32, Interval, ranges
from qatspec.program.model import Op, Program

#: What an op of a Program is made into: tensors of its operands that are no constants, to a result.
Step = Callable[..., Tensor]
#: Makes a step of an op; the constants become tensors here, once.
Build = Callable[["Carriers", Op], Step]

#: Kinds whose result is a tensor that nothing else sees.
_ACCUMULATING = ("conv", "conv_transpose", "linear")


class Carriers:
    """What the builders of steps ask about a Program."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._ranges = ranges(program)
        uses = Counter(name for op in program.ops for name in op.inputs)
        uses.update(port.name for port in program.outputs)
        self._passing = frozenset(
            op.output for op in program.ops if op.kind in _ACCUMULATING and uses[op.output] == 1
        )

    def carrier(self, name: str) -> torch.dtype:
        """The float dtype that holds every integer `name` can be."""
        return torch.float32 if self._ranges[name].magnitude < EXACT32 else torch.float64

    def interval(self, name: str) -> Interval:
        """What `name` can hold."""
        return self._ranges[name]

    def const(self, name: str, dtype: torch.dtype) -> Tensor:
        """A constant of the program as a tensor."""
        return torch.from_numpy(np.ascontiguousarray(self._program.consts[name])).to(dtype)

    def shape(self, name: str) -> tuple[int, ...]:
        """Without the batch."""
        return self._program.values[name].shape

    def dtype(self, name: str) -> str:
        """The Program's dtype of `name`."""
        return self._program.values[name].dtype

    def may_overwrite(self, name: str) -> bool:
        """Is `name` an accumulator that one op reads, once? That op may write its result there."""
        return name in self._passing


@contextlib.contextmanager
def exact_kernels() -> Iterator[None]:
    """Inference on float kernels that multiply and add as IEEE 754 does, whatever the caller's
    settings: no autocast, no NNPACK (Winograd), no oneDNN products in bfloat16 (which
    `torch.set_float32_matmul_precision("medium")` allows, on CPUs with AMX)."""
    kernels = [getattr(torch.backends.mkldnn, kind) for kind in ("conv", "matmul")]
    reduced = [(k, k.fp32_precision) for k in kernels if k.fp32_precision not in ("none", "ieee")]
    for kernel, _ in reduced:
        kernel.fp32_precision = "ieee"
    try:
        with (
            torch.inference_mode(),
            torch.autocast("cpu", enabled=False),
            torch.backends.nnpack.flags(enabled=False),
        ):
            yield
    finally:
        for kernel, precision in reduced:
            kernel.fp32_precision = precision
