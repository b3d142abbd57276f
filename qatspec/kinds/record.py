"""The record of a kind of integer op. There are no defaults: a kind without a bound, a step or an
ONNX form cannot be written down."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

from qatspec.ir import DType, Interval, Op, Value
from qatspec.kinds.attributes import LIMIT, Attribute, Malformed
from qatspec.types import Lazy

#: dtype and shape (without the batch) of an op's result.
Result = tuple[DType, tuple[int, ...]]
Consts = Mapping[str, Any]


class Trait(enum.Enum):
    """What other packages ask of a kind instead of listing names."""

    WEIGHTED = "its second operand is a constant weight; the result is an int32 accumulator"
    INPUTS_FIRST = "dim 0 of its weight is the input channel, dim 1 the output channel of a group"
    BYTE_KERNEL = "onnxruntime multiplies its uint8 operand by its int8 weight in one kernel"
    LAST_DIM = "it computes along the last dim of its operands"
    LAST_TWO_DIMS = "it computes along the last two dims of its operands"
    POINTWISE = "element i of the result needs element i of each activation"
    WINDOWED = "a result row needs a window of input rows: stride and padding are attributes"
    FOLLOWS = "it can run behind another op of the same layer, on the accumulator"
    IMAGES = "it takes (C, H, W) alone"
    TABLE = "its second operand is a table, which each number of the first one enters"
    SOFTMAX = "a step of a softmax: the table entered from the largest number, or the quotient"
    REDUCES = "it reduces whole dims, named by the attribute `axes`"
    RESIZES = "it changes rows and columns to the attribute `size`"
    REARRANGES = "its result holds integers of its one operand alone, in another shape or order"
    COMMUTES = "a number added to every operand is added to its result; its ONNX form takes uint8"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of integer op.

    operands     how the operands and the result are written down: "x, w (O, I) int8 -> int32".
    meaning      the definition in words, with the operands' names.
    count        smallest and largest number of operands.
    activations  number of operands -> how many of them, counted from the first, are no constants.
    attributes   name -> type and range; read in this order.
    infer        (op, operands, constants) -> dtype and shape of the result. Attributes are checked
                 before. Raises Malformed.
    bounds       (op, intervals of the operands, shape of the first one, constants) -> interval of
                 the result. Raises Overflow where the result or a partial sum may leave its dtype.
    step         (dtypes, op) -> the executor's function of tensors: see `qatspec.kinds.exact`.
    onnx         (emitter, op) -> name of the result: see `qatspec.kinds.emitter`.
    """

    name: str
    operands: str
    meaning: str
    count: tuple[int, int]
    activations: Callable[[int], int]
    attributes: Mapping[str, Attribute]
    infer: Callable[[Op, list[Value], Consts], Result]
    bounds: Callable[[Op, list[Interval], tuple[int, ...], Consts], Interval]
    step: Lazy
    onnx: Lazy
    traits: frozenset[Trait] = field(default_factory=frozenset)

    def check(self, op: Op, inputs: list[Value], consts: Consts) -> Result:
        """The (dtype, shape) of the op's result. Raises Malformed, whatever the op holds."""
        low, high = self.count
        if not low <= len(inputs) <= high:
            raise Malformed(f"takes {low} to {high} operands, has {len(inputs)}")
        for name, attribute in self.attributes.items():
            attribute.check(name, op.attrs, inputs[0])
        dtype, shape = self.infer(op, inputs, consts)
        for value in inputs[: self.activations(len(inputs))]:
            if value.name in consts:
                raise Malformed(
                    f"operand `{value.name}` is a constant, and constants have no batch"
                )
        if any(d < 1 for d in shape) or prod(shape) > LIMIT:
            raise Malformed(f"a result of shape {shape} is empty or too large")
        return dtype, shape


def first(count: int) -> int:
    """Only the first operand is an activation."""
    return 1


def every(count: int) -> int:
    """Every operand is an activation."""
    return count


def same_interval(op: Op, inputs: list[Interval], shape: Any, consts: Consts) -> Interval:
    """The bound of a kind whose result holds integers of its first operand alone."""
    return inputs[0].merged()
