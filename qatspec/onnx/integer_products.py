"""Sums of products in standard ONNX ops: ConvInteger and MatMulInteger (8-bit operands, int32 sums,
exact); int16 operands go as two 8-bit halves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qatspec.onnx.emitter import Emitter
from qatspec.program import Op


def _halves(emit: Emitter, op: Op) -> list[tuple[str, int]]:
    """The operand as 8-bit tensors with their weights: x = hi * 256 + lo for int16."""
    x = emit.x(op)
    if emit.dtype(op.inputs[0]) != "int16":
        return [(x, 1)]
    w = emit.w
    wide = w.cast(x, np.int32, f"{op.output}.x")
    # lo = x mod 256 in [0, 255] (integer Mod takes the divisor's sign), hi = (x - lo) / 256 exact
    lo = w.node("Mod", [wide, w.const("c256", 256, np.int32)], f"{op.output}.mod")
    rest = w.node("Sub", [wide, lo], f"{op.output}.rest")
    hi = w.node("Div", [rest, w.const("c256", 256, np.int32)], f"{op.output}.div")
    return [
        (w.cast(hi, np.int8, f"{op.output}.hi"), 256),
        (w.cast(lo, np.uint8, f"{op.output}.lo"), 1),
    ]


def _split_weight(weight: np.ndarray) -> list[tuple[np.ndarray, int]]:
    """An int16 weight as int8 halves: w = hi * 256 + lo, lo in [-128, 127]."""
    if weight.dtype == np.int8:
        return [(weight, 1)]
    lo = ((weight.astype(np.int64) + 128) % 256 - 128).astype(np.int8)
    hi = (weight.astype(np.int64) - lo) // 256
    if hi.max() > 127:  # 32640 and above: hi would be 128
        half = hi // 2
        parts = [(half, 256), (hi - half, 256), (lo.astype(np.int64), 1)]
    else:
        parts = [(hi, 256), (lo.astype(np.int64), 1)]
    return [(part.astype(np.int8), scale) for part, scale in parts]


def _products(
    emit: Emitter,
    op: Op,
    weight: np.ndarray,
    write: Callable[[str, str, str], str],
    bias_shape: tuple[int, ...],
) -> str:
    """Sum over the 8-bit parts of operand and weight, plus the bias; int32 throughout: wrapped
    partial sums of the parts still end at the proven result."""
    w, total = emit.w, ""
    has_bias = len(op.inputs) == 3
    parts = [(x, a * b, part) for x, a in _halves(emit, op) for part, b in _split_weight(weight)]
    for i, (x, scale, part) in enumerate(parts):
        alone = len(parts) == 1 and not has_bias
        name = w.const(
            f"{op.inputs[1]}" if len(parts) == 1 else f"{op.inputs[1]}.{i}", part, np.int8
        )
        y = write(x, name, op.output if alone else f"{op.output}.acc")
        if scale != 1:
            y = w.node("Mul", [y, w.const(f"c{scale}", scale, np.int32)], f"{op.output}.scaled")
        total = y if not total else w.node("Add", [total, y], f"{op.output}.sum")
    if has_bias:
        bias = w.const(op.inputs[2], emit.array(op, 2).reshape(bias_shape), np.int32)
        total = w.node("Add", [total, bias], op.output)
    return total


def emit_conv(emit: Emitter, op: Op) -> str:
    """A convolution, one a part."""
    a, weight = op.attrs, emit.array(op, 1)

    def write(x: str, name: str, output: str) -> str:
        return emit.w.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=list(weight.shape[2:]),
            strides=list(a["stride"]),
            pads=list(a["padding"]),
            dilations=list(a["dilation"]),
            group=a["groups"],
        )

    return _products(emit, op, weight, write, (-1, 1, 1))


def emit_conv_transpose(emit: Emitter, op: Op) -> str:
    """There is no integer ConvTranspose: zeros go between the inputs, the kernel is turned."""
    a, w, weight = op.attrs, emit.w, emit.array(op, 1)
    groups, (channels, per_group, kh, kw) = a["groups"], weight.shape
    turned = weight.reshape(groups, channels // groups, per_group, kh, kw)[..., ::-1, ::-1]
    turned = turned.swapaxes(1, 2).reshape(groups * per_group, channels // groups, kh, kw)
    height, width = emit.shape(op.inputs[0])[1:]
    sh, sw = a["stride"]
    reach = [d * (k - 1) for d, k in zip(a["dilation"], (kh, kw), strict=True)]
    top, left, bottom, right = a["padding"]
    eh, ew = a["output_padding"]
    # Pads around the (h - 1) * s + 1 spread rows; the zeros behind the last row count too.
    pads = [reach[0] - top, reach[1] - left]
    pads += [reach[0] - bottom + eh - (sh - 1), reach[1] - right + ew - (sw - 1)]

    def write(x: str, name: str, output: str) -> str:
        if (sh, sw) != (1, 1):
            shape = w.const(f"{output}.apart", [0, channels, height, 1, width, 1], np.int64)
            x = w.node("Reshape", [x, shape], f"{output}.reshape")
            zeros = w.const(f"{output}.zeros", [0] * 6 + [0, 0, 0, sh - 1, 0, sw - 1], np.int64)
            x = w.node("Pad", [x, zeros], f"{output}.spread")
            shape = w.const(f"{output}.shape", [0, channels, height * sh, width * sw], np.int64)
            x = w.node("Reshape", [x, shape], f"{output}.spread")
        if min(pads) < 0:
            ends = [p if p < 0 else np.iinfo(np.int64).max for p in pads[2:]]
            cut = [[-min(pads[0], 0), -min(pads[1], 0)], ends, [2, 3]]
            names = [w.const(f"{output}.cut", c, np.int64) for c in cut]
            x = w.node("Slice", [x, *names], f"{output}.cut")
        return w.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=[kh, kw],
            pads=[max(p, 0) for p in pads],
            dilations=list(a["dilation"]),
            group=groups,
        )

    return _products(emit, op, turned, write, (-1, 1, 1))


def emit_linear(emit: Emitter, op: Op) -> str:
    """A matrix product over the last dim."""

    def write(x: str, name: str, output: str) -> str:
        return emit.w.node("MatMulInteger", [x, name], output)

    return _products(emit, op, emit.array(op, 1).T, write, (-1,))


def emit_sum_pool(emit: Emitter, op: Op) -> str:
    """A depthwise conv by ones."""
    a, channels = op.attrs, emit.shape(op.inputs[0])[0]
    ones = np.ones((channels, 1, *a["kernel"]), np.int8)
    conv = Op(
        kind="conv",
        inputs=(op.inputs[0], f"{op.output}.ones"),
        output=op.output,
        attrs={**a, "dilation": (1, 1), "groups": channels},
    )

    def write(x: str, name: str, output: str) -> str:
        return emit.w.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=list(a["kernel"]),
            strides=list(a["stride"]),
            pads=list(a["padding"]),
            group=channels,
        )

    return _products(emit, conv, ones, write, ())
