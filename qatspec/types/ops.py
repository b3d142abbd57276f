"""Traits and examples of ops, which a quant handler's record states."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class OpTrait(enum.Enum):
    """Properties of ops that passes ask for, so that none lists names."""

    WEIGHT = "it computes with a weight of its own: a conv or linear, on which fusing begins"
    BATCH_NORM = "it normalizes by running statistics: it can be folded into a conv before it"
    CLAMP = "it bounds its operand: rounding before and after it equals rounding after it alone"
    IMAGES = "it takes (N, C, spatial dims) tensors and computes along these dims"
    MOVES = "its result holds numbers of its operands alone, and its ONNX form takes integers too"
    MOVES_WHERE_SHARED = "as MOVES, where `annotate` says that the result shares the input's scale"
    REARRANGES = "its result holds numbers of its operand alone, each at most once"
    MAXIMUM = "each number of its result is the largest of some numbers of its operand"
    SUMS = "each number of its result is the sum or the difference of one number of each operand"
    PRODUCTS = "its result holds products or quotients of numbers of its two operands"
    PICKS = "each number of its result is the larger or the smaller one of its two operands"
    JOINS = "its result holds the numbers of all tensors of a list"
    AVERAGES = "each number of its result is a sum or an average of numbers of its operand"
    SIZES = "it gives numbers of a tensor's shape: it has no examples and no ONNX form"
    ENDS_KERNEL = "runtimes run it with the Q/DQ pair behind it as one integer kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One op as a module, on which the kit and the project's tests try a handler.

    op         canonical name of the op that the module is.
    build      () -> a module of one tensor of `shape` (the first dim is the batch).
    reference  array -> array: the same in real numbers, in numpy: integers are held to it within
               one step of the result's scale. None: they are held to the fake-quant model alone.
    """

    op: str
    build: Callable[[], torch.nn.Module]
    reference: Callable[[Any], Any] | None = None
    shape: tuple[int, ...] = (2, 4, 8, 8)
