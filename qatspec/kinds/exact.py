"""Which tensor carries which integer value, and the settings under which torch's kernels are exact
on integers.

Values of 8 bits are bytes; others are floats. A float tensor holds every integer below 2^24
(float32) or 2^53 (float64). A sum of products of integers whose partial sums all stay below that is
exact in any order, with or without fused multiply-add: every intermediate result is an integer that
the dtype holds. `bounds` proves it from the weights. What is left to exclude are kernels that
compute something else: transformed data (Winograd) and products of fewer bits.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from qatspec.ir import EXACT32, Interval, Op, ProgramData

#: The dtypes of tensors of bytes.
BYTES = (torch.int8, torch.uint8)
_HOLDERS = {"int4": torch.int8, "int8": torch.int8, "uint8": torch.uint8}
#: Below this, |a| + |r| of integers a and r have floor(a / r + 1/2) without a division in float64.
#: It is floor(a / r + 1/2 + 1 / |4 r|): (2 a + r) / (2 r) is a multiple of 1 / |2 r|, and that sum
#: is at least 1 / |4 r| away from every integer. Rounding 1 / r, two products and two sums moves it
#: by less than 2^-49 (|a / r| + 1), which is below 2^-49 2^47 / |r|. The same holds without 1/2.
NEAR = 1 << 47
#: What an op of a Program is made into: tensors of its operands that are no constants, to a result.
Step = Callable[..., Tensor]
#: Makes a step of an op; the constants become tensors here, once.
Build = Callable[["ExactDtypes", Op], Step]


class ExactDtypes:
    """What the builders of steps ask about a Program."""

    def __init__(
        self, program: ProgramData, ranges: Mapping[str, Interval], overwritable: Collection[str]
    ) -> None:
        """ranges: of every value. overwritable: values in whose memory their one reader may put its
        result."""
        self._program, self._ranges, self._overwritable = program, ranges, overwritable

    def holder(self, name: str) -> torch.dtype:
        """The dtype of the tensor that is `name`: bytes for 8 bits, else `float_dtype`."""
        return _HOLDERS.get(self.dtype(name)) or self.float_dtype(name)

    def float_dtype(self, name: str) -> torch.dtype:
        """The float dtype that holds every integer `name` can be."""
        return torch.float32 if self._ranges[name].magnitude < EXACT32 else torch.float64

    def interval(self, name: str) -> Interval:
        """What `name` can hold."""
        return self._ranges[name]

    def array(self, name: str) -> np.ndarray:
        """A constant of the program."""
        return self._program.consts[name]

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
        """Return whether the one op that reads `name` may write its result there."""
        return name in self._overwritable


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


def padded(x: Tensor, padding: Sequence[int], value: int) -> Tensor:
    """An image with `value` around it. padding: top, left, bottom, right."""
    top, left, bottom, right = padding
    return F.pad(x, (left, right, top, bottom), value=value) if any(padding) else x


def rounded(quotient: Tensor, rounding: str) -> Tensor:
    """Round a float64 quotient of integers a / b in place, as the exact quotient is rounded.

    The bound of the op proves |a| + |b| / 2 < 2^51. A quotient that is neither an integer nor half
    of one is at least 1 / (2 |b|) away from both, which is more than the division and the addition
    of a half can lose."""
    if rounding == "half_even":
        return quotient.round_()
    return (quotient.add_(0.5) if rounding == "half_up" else quotient).floor_()
