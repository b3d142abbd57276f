"""Row maps: which rows of its inputs an op reads for given rows of its output.

All functions take ends h0, h1 (h1 exclusive) as integers or as arrays of integers.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.ir import Op
from qatspec.kinds import Trait, has
from qatspec.program import Program

Rows = Any  #: an integer or an array of integers


def divisible(op: Op, program: Program) -> bool:
    """Return whether some rows of the output can be computed without the others."""
    shapes = [program.values[n].shape for n in op.inputs if n not in program.consts]
    out = program.values[op.output].shape
    image = len(out) == 3 and all(len(shape) == 3 for shape in shapes)
    if op.kind == "requant" and op.attrs["axis"] != 1 and _per_channel(op, program):
        return False
    if has(op, Trait.POINTWISE):
        return image
    if op.kind == "conv":
        # a row that reads nothing but padding would be a tile without an input
        return _padding_is_narrow(op, program.values[op.inputs[1]].shape[2])
    if op.kind == "concat":
        return image and op.attrs["axis"] in (1, 3)
    if along_columns(op):
        return image
    if op.kind == "matmul":
        return image and shapes[0][0] == shapes[1][0]
    if op.kind == "slice":
        return image
    if has(op, Trait.RESIZES):
        source, rows = shapes[0][1], op.attrs["size"][0]
        return image and rows % source == 0 and not op.attrs.get("align_corners", False)
    return has(op, Trait.IMAGES)


def along_columns(op: Op) -> bool:
    """Return whether a number of the result rests on its row of an image alone: an exponential
    below the maximum, or a sum, of the columns."""
    if op.kind == "exp_below_max":
        return bool(op.attrs["axis"] == 3)
    return has(op, Trait.REDUCES) and op.attrs["axes"] == (3,) and op.attrs["keepdim"]


def _padding_is_narrow(op: Op, kernel: int) -> bool:
    top, _, bottom, _ = op.attrs["padding"]
    return bool(max(top, bottom) <= (kernel - 1) * op.attrs["dilation"][0])


def _per_channel(op: Op, program: Program) -> bool:
    return any(program.values[n].shape != (1,) for n in op.inputs if n in program.consts)


def window(op: Op, program: Program) -> tuple[int, int, int]:
    """(kernel, stride, dilation) along the rows."""
    weighted = has(op, Trait.WEIGHTED)
    kernel = program.values[op.inputs[1]].shape[2] if weighted else op.attrs["kernel"][0]
    return kernel, op.attrs["stride"][0], op.attrs.get("dilation", (1, 1))[0]


def rows_read(op: Op, name: str, program: Program, h0: Rows, h1: Rows) -> tuple[Rows, Rows]:
    """The rows of activation `name` that rows h0..h1 of a divisible op's output rest on; at least
    one."""
    height = program.values[name].shape[1]
    if has(op, Trait.WINDOWED):
        kernel, stride, dilation = window(op, program)
        top = op.attrs["padding"][0]
        low, high = h0 * stride - top, (h1 - 1) * stride - top + (kernel - 1) * dilation + 1
    elif op.kind == "conv_transpose":
        kernel, stride, dilation = window(op, program)
        top = op.attrs["padding"][0]
        first = -((dilation * (kernel - 1) - h0 - top) // stride)
        low = np.minimum(first, (h0 + top) // stride)
        high = (h1 - 1 + top) // stride + 1
    elif op.kind == "pad":
        top = op.attrs["padding"][0]
        low, high = h0 - top, h1 - top
    elif op.kind == "slice" and op.attrs["axis"] == 2:
        start, step = op.attrs["start"], op.attrs["step"]
        low, high = start + step * h0, start + step * (h1 - 1) + 1
    elif op.kind == "resize_nearest":
        factor = op.attrs["size"][0] // height
        low, high = h0 // factor, (h1 - 1) // factor + 1
    elif op.kind == "resize_bilinear":
        low, high = _bilinear(op, height, h0), _bilinear(op, height, h1 - 1) + 2
    elif op.kind == "matmul" and name == op.inputs[1]:
        low, high = 0 * h0, 0 * h1 + height
    else:
        low, high = h0, h1
    if has(op, Trait.POINTWISE) and height == 1:
        low, high = 0 * h0, 0 * h1 + 1
    if isinstance(h0, int):
        low = min(max(int(low), 0), height - 1)
        return low, min(max(int(high), low + 1), height)
    low = np.clip(low, 0, height - 1)
    return low, np.clip(high, low + 1, height)


def _bilinear(op: Op, height: int, row: Rows) -> Rows:
    """The upper of the two input rows between which a row of a bilinear resize lies."""
    out, bits = op.attrs["size"][0], op.attrs["bits"]
    position = np.maximum((2 * row + 1) * height - out, 0)  # in units of 1 / (2 out)
    return ((position << bits) + out) // (2 * out) >> bits


def local_rows(op: Op, h0: int, h1: int, program: Program) -> tuple[dict[str, Any], int]:
    """The attributes with which a divisible op computes rows h0..h1 from the rows that
    `rows_read` names, and how many rows of that result lie before h0. Rows behind h1 may follow.
    """
    attrs = dict(op.attrs)
    activations = [n for n in op.inputs if n not in program.consts]
    height = program.values[activations[0]].shape[1] if activations else 0
    if has(op, Trait.WINDOWED):
        kernel, stride, dilation = window(op, program)
        top, left, _, right = op.attrs["padding"]
        last = (h1 - 1) * stride - top + (kernel - 1) * dilation
        attrs["padding"] = (max(0, top - h0 * stride), left, max(0, last + 1 - height), right)
    elif op.kind == "conv_transpose":
        return _local_transposed(op, h0, h1, program)
    elif op.kind == "pad":
        top, left, _, right = op.attrs["padding"]
        low, high = (int(r) for r in rows_read(op, op.inputs[0], program, h0, h1))
        before, behind = max(0, low + top - h0), max(0, h1 - high - top)
        attrs["padding"] = (before, left, behind, right)
        return attrs, h0 + before - low - top
    elif op.kind == "slice" and op.attrs["axis"] == 2:
        low, high = (int(r) for r in rows_read(op, op.inputs[0], program, h0, h1))
        attrs["start"], attrs["stop"] = 0, high - low
    elif has(op, Trait.RESIZES):
        low, high = (int(r) for r in rows_read(op, op.inputs[0], program, h0, h1))
        factor = op.attrs["size"][0] // height
        attrs["size"] = (factor * (high - low), op.attrs["size"][1])
        return attrs, h0 - factor * low
    return attrs, 0


def _local_transposed(op: Op, h0: int, h1: int, program: Program) -> tuple[dict[str, Any], int]:
    """Rows of the full result are cut by the padding; what lies behind the last input row is made
    by output padding."""
    kernel, stride, dilation = window(op, program)
    low, high = (int(r) for r in rows_read(op, op.inputs[0], program, h0, h1))
    top, left, _, right = op.attrs["padding"]
    before = h0 + top - low * stride
    full = (high - low - 1) * stride + dilation * (kernel - 1) + 1
    behind = full - before - (h1 - h0)
    _, columns = op.attrs["output_padding"]
    attrs = {
        **op.attrs,
        "padding": (before, left, max(0, behind), right),
        "output_padding": (max(0, -behind), columns),
    }
    return attrs, 0
