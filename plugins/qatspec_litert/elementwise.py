"""Requantizations of 8-bit tensors, sums of two, bounds, and functions from tables."""

from __future__ import annotations

from math import prod

import numpy as np

from qatspec.api import Op
from qatspec_litert import kernels, products
from qatspec_litert.images import bilinear
from qatspec_litert.writer import NotHeldError, Writer, file_shape


def requant(writer: Writer, op: Op) -> None:
    """A requantization: behind sums, of one tensor, or of two."""
    terms = writer.activations(op)
    if len(terms) == 1 and terms[0] in writer.sums:
        sums = writer.sums[terms[0]]
        if sums.op.kind == "resize_bilinear":
            bilinear(writer, sums.op, op)
        else:
            products.requantized(writer, op, sums)
        return
    tensors = [writer.small(name) for name in terms]
    if len(terms) == 1:
        made = _moved(writer, op, terms[0], tensors[0])
    elif len(terms) == 2:
        made = _added(writer, op, terms, tensors)
    else:
        raise NotHeldError(f"it adds {len(terms)} tensors at once: {writer.march} adds two")
    writer.tensors[op.output] = made


def _moved(writer: Writer, op: Op, x: str, tensor: int) -> int:
    """To another grid. A factor of the tensor is the scale of a second operand, the integer 1."""
    m, shift = (writer.const(name) for name in op.inputs[-2:])
    source, target = writer.scale(x), writer.scale(op.output)
    constants = kernels.move(writer.form, source, target)
    own_form = "single" if writer.form == "float32" else writer.form
    shape = file_shape(writer.shape(op.output))
    if (
        op.attrs.get("form", "single") == own_form
        and np.array_equal(constants[0], m)
        and np.array_equal(constants[1], shift)
    ):
        return writer.rounded(op, "QUANTIZE", [tensor], shape)
    if op.attrs.get("form") != writer.form or op.attrs.get("lift", 0):
        raise NotHeldError(f"it rounds otherwise than the form {writer.form}")
    if m.size == 1:
        scale = products.weight_scales(writer, op, x, 1, kernels.mul)
        one = writer.file.tensor(f"{op.output}.one", (1,), scale=scale, data=np.ones(1, np.int8))
        return writer.rounded(op, "MUL", [tensor, one], shape)
    if len(writer.shape(x)) == 3 and op.attrs["axis"] == 1:
        return _by_channels(writer, op, x, tensor, shape)
    return _by_places(writer, op, x, tensor)


def _by_channels(writer: Writer, op: Op, x: str, tensor: int, shape: tuple[int, ...]) -> int:
    """A factor for each channel of an operand with the channels last: a convolution of 1s."""
    weight = np.ones((1, 1, 1, shape[-1]), np.int8)
    operands = products.unit_operands(writer, op, x, weight)
    return writer.rounded(
        op, "DEPTHWISE_CONV_2D", [tensor, *operands], shape,
        padding=products.VALID, strideH=1, strideW=1, depthMultiplier=1,
    )  # fmt: skip


def _by_places(writer: Writer, op: Op, x: str, tensor: int) -> int:
    """A factor for each place along another dim: this dim as the channels of a picture."""
    shape, axis = writer.shape(x), op.attrs["axis"]
    tensor = writer.in_order(tensor, shape, op.output)
    order = [i for i in range(len(shape) + 1) if i != axis] + [axis]
    turned = [(1, *shape)[i] for i in order]
    tensor = writer.permuted(tensor, order, op.output)
    rows = (1, prod(turned[:-1]), 1, turned[-1])
    made = _by_channels(writer, op, x, writer.reshaped(tensor, rows, op.output), rows)
    made = writer.reshaped(made, turned, op.output)
    made = writer.permuted(made, [order.index(i) for i in range(len(order))], op.output)
    return writer.in_layout(made, shape, op.output)


def _added(writer: Writer, op: Op, terms: list[str], tensors: list[int]) -> int:
    """A sum or a difference of two tensors."""
    a, b = (writer.scale(name) for name in terms)
    y = writer.scale(op.output)
    ms = [int(writer.const(name)[0]) for name in op.inputs[2:4]]
    shift = int(writer.const(op.inputs[4])[0])
    shape = file_shape(writer.shape(op.output))
    ratios = [float(scale) / float(y) for scale in (a, b)]
    low, high = kernels.SUM
    if writer.form == "float32" and max(ratios) >= high:
        raise NotHeldError(f"a scale of an operand is {max(ratios):.3g} times that of their sum")
    if writer.form == "double_high" or min(ratios) < low:
        wanted, last, attrs = kernels.reference_sum(a, b, y)
        attributes = {key: op.attrs.get(key) for key in attrs}
        if (ms, shift, attributes) != (wanted, last, attrs):
            raise NotHeldError("the scales of its operands do not give its multipliers in LiteRT")
        return writer.rounded(op, "ADD", tensors, shape)
    (first, second), last = kernels.xnnpack_sum(a, b, y)
    if (shift, op.attrs.get("form", "single")) == (last, "single"):
        if ms == [first, second]:
            return writer.rounded(op, "ADD", tensors, shape)
        if ms == [first, -second]:
            return writer.rounded(op, "SUB", tensors, shape)
        if ms == [-first, second]:
            return writer.rounded(op, "SUB", tensors[::-1], shape)
    raise NotHeldError("the scales of its operands do not give its multipliers in LiteRT")


def clamp(writer: Writer, op: Op) -> None:
    tensor = writer.small(op.inputs[0])
    writer.tensors[op.output] = writer.clamped(op.output, tensor, op.attrs["low"], op.attrs["high"])


def lut(writer: Writer, op: Op) -> None:
    """The entry of the table for each integer: an index from 0 on, and a gather."""
    tensor, shape = writer.small(op.inputs[0]), file_shape(writer.shape(op.output))
    made = writer.result(op.output)
    table = writer.const(op.inputs[1]).astype(np.int64) + writer.zero(op.output)
    name, file = op.output, writer.file
    wide = file.op("CAST", [tensor], file.tensor(f"{name}.wide", shape, "int32"))
    offset = file.tensor(f"{name}.lowest", (1,), "int32", data=np.array([128], np.int32))
    index = file.op("ADD", [wide, offset], file.tensor(f"{name}.index", shape, "int32"))
    entries = file.tensor(
        f"{name}.table", table.shape, scale=writer.scale(name), zero=writer.zero(name), data=table
    )
    writer.tensors[name] = file.op("GATHER", [entries, index], made, axis=0)
