"""Sums of products: their weights are integers with a DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.export.fast.products import window_attributes
from qatspec.export.real.values import Values
from qatspec.ir import Op


def conv(emit: Values, op: Op) -> None:
    """A convolution."""
    unit, weight = unit_of_sums(emit, op, 1), emit.array(op, 1)
    names = [emit.x(op), _weight(emit, op, weight, unit, 0), *_bias(emit, op, unit)]
    y = emit.graph.node("Conv", names, f"{op.output}.sums", **window_attributes(op, weight))
    emit.keep(op.output, y, unit)


def conv_transpose(emit: Values, op: Op) -> None:
    """A transposed convolution, its weight (I, O/g, kh, kw). With groups, the channels of one axis
    have several scales, so that its weight is written as real numbers."""
    a, unit, weight = op.attrs, unit_of_sums(emit, op, 1), emit.array(op, 1)
    grouped = a["groups"] > 1 and unit.size > 1
    if grouped:
        inputs, outputs = weight.shape[0] // a["groups"], weight.shape[1]
        scale = unit.reshape(a["groups"], 1, outputs) / emit.one(op.inputs[0])
        real = weight.reshape(a["groups"], inputs, outputs, -1) * scale[..., None]
        name = emit.graph.const(op.inputs[1], real.reshape(weight.shape), np.float32)
    else:
        name = _weight(emit, op, weight, unit, 1)
    attrs = {**window_attributes(op, weight), "output_padding": list(a["output_padding"])}
    names = [emit.x(op), name, *_bias(emit, op, unit, real=grouped)]
    y = emit.graph.node("ConvTranspose", names, f"{op.output}.sums", **attrs)
    emit.keep(op.output, y, unit)


def linear(emit: Values, op: Op) -> None:
    """A matrix product over the last dim: Gemm for vectors, MatMul and Add for more dims."""
    axis = len(emit.shape(op.output))
    unit, weight, graph = unit_of_sums(emit, op, axis), emit.array(op, 1), emit.graph
    if axis == 1:
        names = [emit.x(op), _weight(emit, op, weight, unit, 0), *_bias(emit, op, unit)]
        y = graph.node("Gemm", names, f"{op.output}.sums", transB=1)
    else:
        matrix = _weight(emit, op, weight.T, unit, 1)
        y = graph.node("MatMul", [emit.x(op), matrix], f"{op.output}.sums")
        if len(op.inputs) == 3:
            bias = graph.const(op.inputs[2], emit.array(op, 2) * unit, np.float32)
            y = graph.node("Add", [y, bias], f"{op.output}.biased")
    emit.keep(op.output, y, unit, axis)


def matmul(emit: Values, op: Op) -> None:
    """The product of two activations."""
    y = emit.graph.node("MatMul", [emit.x(op, 0), emit.x(op, 1)], f"{op.output}.sums")
    emit.keep(op.output, y, emit.one(op.inputs[0]) * emit.one(op.inputs[1]))


def unit_of_sums(emit: Values, op: Op, axis: int) -> np.ndarray:
    """The real number of 1 of a layer's sums: where one requantization alone reads them, that for
    which nothing but the rounding is left of it, m / 2^s times the unit of its result."""
    requant = emit.alone.get(op.output)
    if requant is not None and (requant.attrs["axis"] == axis or _is_one_number(emit, requant)):
        term = requant.inputs.index(op.output)
        terms = len(requant.inputs) // 2
        unit = emit.array(requant, terms + term) * np.exp2(
            -emit.array(requant, 2 * terms).astype(np.float64)
        )
        if (unit > 0).all():
            return np.asarray(unit * emit.own_unit(requant.output)[0][:1])
    scale, along = emit.own_unit(op.output)
    if emit.program.values[op.output].scale is None or (scale.size > 1 and along != axis):
        return emit.one(op.inputs[0])
    return scale


def _is_rounded(emit: Values, op: Op) -> bool:
    """Return whether a layer's parameters are written as integers: with node units, only where
    nothing but a rounding follows."""
    requant = emit.alone.get(op.output)
    return not emit.has_node_units or (requant is not None and len(requant.inputs) == 3)


def _is_one_number(emit: Values, requant: Op) -> bool:
    return all(emit.program.consts[n].size == 1 for n in requant.inputs[len(requant.inputs) // 2 :])


def _weight(emit: Values, op: Op, weight: np.ndarray, unit: np.ndarray, axis: int) -> str:
    """A layer's weight as real numbers, one scale a channel of `axis`."""
    graph, scale = emit.graph, unit / emit.one(op.inputs[0])
    is_wide = weight.dtype != np.int8  # no DequantizeLinear of this opset takes 16 bits
    if is_wide or not _is_rounded(emit, op):
        shape = [-1 if d == axis else 1 for d in range(weight.ndim)]
        return graph.const(op.inputs[1], weight * scale.reshape(shape), np.float32)
    along: dict[str, Any] = {"axis": axis} if scale.size > 1 else {}
    if scale.size == 1:
        scale = scale.reshape(())
    names = [
        graph.const(op.inputs[1], weight, np.int8, shared=False),
        graph.const(f"{op.inputs[1]}.scale", scale, np.float32),
        graph.const("zeros", np.zeros(scale.shape), np.int8),
    ]
    return graph.node("DequantizeLinear", names, f"{op.inputs[1]}.real", **along)


def _bias(emit: Values, op: Op, unit: np.ndarray, *, real: bool = False) -> list[str]:
    """A layer's bias, integers of its sums. real: as real numbers in any case."""
    if len(op.inputs) < 3:
        return []
    graph, bias = emit.graph, emit.array(op, 2)
    scale = np.broadcast_to(unit, bias.shape)
    if real or not _is_rounded(emit, op):
        return [graph.const(op.inputs[2], bias * scale, np.float32)]
    names = [
        graph.const(op.inputs[2], bias, np.int32, shared=False),
        graph.const(f"{op.inputs[2]}.scale", scale, np.float32),
    ]
    return [graph.node("DequantizeLinear", names, f"{op.inputs[2]}.real", axis=0)]
