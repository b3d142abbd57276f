"""Tables with real numbers: as the function that they hold where it is a known one, else Gather."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import erf
from typing import Any

import numpy as np

from qatspec.export.real.values import Values
from qatspec.ir import RANGE, Op, ProgramData
from qatspec.kinds.tables.segments import entries


@dataclass(frozen=True, slots=True)
class Function:
    """A function of one number.

    value  what it computes, in float64.
    write  (emit, x, name of the result) -> the ONNX result.
    units  whether a compiler that matches node units (`to_qdq_onnx`) has every op of it.
    """

    name: str
    value: Callable[[np.ndarray], np.ndarray]
    write: Callable[[Values, str, str], str]
    units: bool = True


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 + 0.5 * np.tanh(x / 2))


def _node(kind: str, **attrs: Any) -> Callable[[Values, str, str], str]:
    return lambda emit, x, name: emit.graph.node(kind, [x], name, **attrs)


def _times(factor: Callable[[Values, str, str], str]) -> Callable[[Values, str, str], str]:
    """x times another function of x."""

    def write(emit: Values, x: str, name: str) -> str:
        return emit.graph.node("Mul", [x, factor(emit, x, f"{name}.factor")], name)

    return write


def _gelu(emit: Values, x: str, name: str) -> str:
    def const(value: float) -> str:
        return emit.graph.const("c", value, np.float32)

    y = emit.graph.node("Mul", [x, const(0.5**0.5)], f"{name}.root")
    y = emit.graph.node("Erf", [y], f"{name}.erf")
    y = emit.graph.node("Add", [y, const(1.0)], f"{name}.above")
    y = emit.graph.node("Mul", [y, const(0.5)], f"{name}.half")
    return emit.graph.node("Mul", [x, y], name)


_SIXTH = {"alpha": 1 / 6, "beta": 0.5}
FUNCTIONS = (
    Function("sigmoid", _sigmoid, _node("Sigmoid")),
    Function("tanh", np.tanh, _node("Tanh")),
    Function("hard sigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), _node("HardSigmoid", **_SIXTH)),
    Function("hard swish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), _node("HardSwish")),
    Function("swish", lambda x: x * _sigmoid(x), _times(_node("Sigmoid"))),
    Function("gelu", lambda x: x * (1 + np.vectorize(erf)(x * 0.5**0.5)) / 2, _gelu, units=False),
    Function("elu", lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), _node("Elu")),
    Function("absolute value", np.abs, _node("Abs")),
)


def known_function(op: Op, program: ProgramData) -> Function | None:
    """Return the function of `FUNCTIONS`, or a leaky relu, that an 8-bit table holds, each entry
    within one integer; None for any other table."""
    x, y = (program.values[name] for name in (op.inputs[0], op.output))
    table = entries(op, lambda op, i: program.consts[op.inputs[i]])
    scales = [value.scale for value in (x, y)]
    if any(scale is None or scale.size > 1 for scale in scales) or len(table) > 256:
        return None
    unit_x, unit_y = (float(scale[0]) for scale in scales if scale is not None)
    numbers = (np.arange(len(table)) + RANGE[x.dtype][0]) * unit_x
    for function in (*FUNCTIONS, *_leaky(numbers, table * unit_y)):
        levels = np.clip(np.rint(function.value(numbers) / unit_y), *RANGE[y.dtype])
        if np.abs(levels - table).max() <= 1:
            return function
    return None


def _leaky(numbers: np.ndarray, values: np.ndarray) -> Sequence[Function]:
    """A leaky relu by the slope that a table has below 0."""
    if numbers[0] >= 0:
        return ()
    slope = float(values[0] / numbers[0])
    return (
        Function(
            "leaky relu",
            lambda x: np.where(x < 0, slope * x, x),
            _node("LeakyRelu", alpha=slope),
        ),
    )


def lut(emit: Values, op: Op) -> None:
    """A table over every integer."""
    function = known_function(op, emit.program)
    if function is not None and (function.units or not emit.has_node_units):
        emit.keep(op.output, function.write(emit, emit.x(op), f"{op.output}.function"))
        return
    lowest = RANGE[emit.dtype(op.inputs[0])][0]
    index = emit.integers(op.inputs[0])
    if lowest:
        index = emit.graph.node(
            "Sub", [index, emit.graph.const("lowest", lowest, np.int32)], f"{op.output}.index"
        )
    _looked_up(emit, op, index)


def exp_below_max(emit: Values, op: Op) -> None:
    """A table over the distance to the largest integer along an axis."""
    x, axis = emit.integers(op.inputs[0]), op.attrs["axis"]
    largest = emit.graph.node("ReduceMax", [x], f"{op.output}.largest", axes=[axis], keepdims=1)
    _looked_up(emit, op, emit.graph.node("Sub", [largest, x], f"{op.output}.below"))


def _looked_up(emit: Values, op: Op, index: str) -> None:
    unit = emit.own_unit(op.output)[0][:1]
    table = emit.graph.const(op.inputs[1], entries(op, emit.array) * unit, np.float32)
    emit.keep(op.output, emit.graph.node("Gather", [table, index], f"{op.output}.found"), unit)
