"""Each kind of integer op in standard ONNX ops: `EMIT[kind](emitter, op) -> result name`.

Sums of products are ConvInteger and MatMulInteger (8-bit operands, int32 sums, exact); int16
operands go as two 8-bit halves. Requantization is double arithmetic below 2^53 (contracts 17):
Cast, Mul by m / 2^s, Add 1/2, Floor, Clip, Cast, each step exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from qatspec.onnx.emitter import Emitter
from qatspec.program import RANGE, STORAGE, Op
from qatspec.program.interp import bilinear_taps, nearest_index

# -- sums of products --------------------------------------------------------------------------


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


def _conv(emit: Emitter, op: Op) -> str:
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


def _conv_transpose(emit: Emitter, op: Op) -> str:
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


def _linear(emit: Emitter, op: Op) -> str:
    def write(x: str, name: str, output: str) -> str:
        return emit.w.node("MatMulInteger", [x, name], output)

    return _products(emit, op, emit.array(op, 1).T, write, (-1,))


def _mul(emit: Emitter, op: Op) -> str:
    x, y = (emit.w.cast(emit.x(op, i), np.int32, f"{op.output}.{i}") for i in (0, 1))
    return emit.w.node("Mul", [x, y], op.output)


# -- requantization ----------------------------------------------------------------------------


def _requant(emit: Emitter, op: Op) -> str:
    w, a, terms = emit.w, op.attrs, len(op.inputs) // 2
    rank = len(emit.shape(op.inputs[0])) + 1
    unit = np.exp2(-emit.array(op, 2 * terms).astype(np.float64))
    total = ""
    for i in range(terms):
        factor = emit.array(op, terms + i).astype(np.float64) * unit
        if factor.size > 1:
            factor = factor.reshape([-1 if d == a["axis"] else 1 for d in range(1, rank)])
        x = w.cast(emit.x(op, i), np.float64, f"{op.output}.x")
        x = w.node("Mul", [x, w.const(f"{op.output}.m", factor, np.float64)], f"{op.output}.mul")
        total = x if not total else w.node("Add", [total, x], f"{op.output}.add")
    if a["rounding"] == "half_up":
        half = w.const("half", 0.5, np.float64)
        total = w.node("Add", [total, half], f"{op.output}.half")
    rounding = "Round" if a["rounding"] == "half_even" else "Floor"
    total = w.node(rounding, [total], f"{op.output}.round")
    bounds = [w.const("bound", float(a[key]), np.float64) for key in ("low", "high")]
    total = w.node("Clip", [total, *bounds], f"{op.output}.clip")
    return w.cast(total, STORAGE[a["dtype"]], op.output)


def _clamp(emit: Emitter, op: Op) -> str:
    dtype = emit.dtype(op.inputs[0])
    own = ("int8", "int4", "int32")
    wide = STORAGE[dtype] if dtype in own else np.int32
    bounds = [emit.w.const("bound", op.attrs[key], wide) for key in ("low", "high")]
    name = op.output if dtype in own else f"{op.output}.clip"
    return emit.through(op, own, np.int32, lambda x: emit.w.node("Clip", [x, *bounds], name))


# -- pools and reductions ----------------------------------------------------------------------


def _max_pool(emit: Emitter, op: Op) -> str:
    """Padded by hand with the lowest integer: ONNX bounds its own padding by the kernel."""
    a, w = op.attrs, emit.w
    top, left, bottom, right = a["padding"]
    lowest = RANGE[emit.dtype(op.inputs[0])][0]

    def write(x: str) -> str:
        dtype = np.int8 if narrow else np.float32
        if any(a["padding"]):
            pads = w.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
            x = w.node("Pad", [x, pads, w.const("lowest", lowest, dtype)], f"{op.output}.pad")
        return w.node(
            "MaxPool",
            [x],
            op.output if narrow else f"{op.output}.max",
            kernel_shape=list(a["kernel"]),
            strides=list(a["stride"]),
            dilations=list(a["dilation"]),
        )

    narrow = emit.dtype(op.inputs[0]) != "int16"
    return emit.through(op, ("int8", "int4"), np.float32, write)


def _sum_pool(emit: Emitter, op: Op) -> str:
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


def _reduce_sum(emit: Emitter, op: Op) -> str:
    x = emit.w.cast(emit.x(op), np.int32, f"{op.output}.x")
    axes = emit.w.const(f"{op.output}.axes", list(op.attrs["axes"]), np.int64)
    return emit.w.node("ReduceSum", [x, axes], op.output, keepdims=int(op.attrs["keepdim"]))


def _reduce_max(emit: Emitter, op: Op) -> str:
    """From opset 18 on the axes are an input."""
    narrow = emit.dtype(op.inputs[0]) != "int16"
    name, axes = op.output if narrow else f"{op.output}.max", list(op.attrs["axes"])
    attrs: dict[str, Any] = {"keepdims": int(op.attrs["keepdim"])}
    more = []
    if emit.opset >= 18:
        more = [emit.w.const(f"{op.output}.axes", axes, np.int64)]
    else:
        attrs["axes"] = axes

    def write(x: str) -> str:
        return emit.w.node("ReduceMax", [x, *more], name, **attrs)

    return emit.through(op, ("int8", "int4"), np.int32, write)


# -- resizes -----------------------------------------------------------------------------------


def _gather(emit: Emitter, x: str, index: np.ndarray, axis: int, name: str) -> str:
    return emit.w.node(
        "Gather", [x, emit.w.const(f"{name}.index", index, np.int64)], name, axis=axis
    )


def _resize_nearest(emit: Emitter, op: Op) -> str:
    x = emit.x(op)
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], op.attrs["size"], strict=True)
    for axis, size, out in sizes:
        name = op.output if axis == 3 else f"{op.output}.rows"
        x = _gather(emit, x, nearest_index(size, out), axis, name)
    return x


def _resize_bilinear(emit: Emitter, op: Op) -> str:
    a, w = op.attrs, emit.w
    x = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    sizes = zip((2, 3), emit.shape(op.inputs[0])[1:], a["size"], strict=True)
    for axis, size, out in sizes:
        low, high, weight = bilinear_taps(size, out, a["align_corners"], a["bits"])
        sides = []
        for index, factor in ((low, (1 << a["bits"]) - weight), (high, weight)):
            shaped = factor.reshape((-1, 1) if axis == 2 else (1, -1))
            part = _gather(emit, x, index, axis, f"{op.output}.tap")
            scale = w.const(f"{op.output}.weight", shaped, np.int32)
            sides.append(w.node("Mul", [part, scale], f"{op.output}.mul"))
        x = w.node("Add", sides, op.output if axis == 3 else f"{op.output}.rows")
    return x


# -- moves -------------------------------------------------------------------------------------


def _concat(emit: Emitter, op: Op) -> str:
    names = [emit.x(op, i) for i in range(len(op.inputs))]
    return emit.w.node("Concat", names, op.output, axis=op.attrs["axis"])


def _reshape(emit: Emitter, op: Op) -> str:
    shape = emit.w.const(f"{op.output}.shape", [0, *op.attrs["shape"]], np.int64)
    return emit.w.node("Reshape", [emit.x(op), shape], op.output)


def _transpose(emit: Emitter, op: Op) -> str:
    return emit.w.node("Transpose", [emit.x(op)], op.output, perm=list(op.attrs["perm"]))


def _slice(emit: Emitter, op: Op) -> str:
    a = op.attrs
    names = [
        emit.w.const(f"{op.output}.{key}", [a[key]], np.int64)
        for key in ("start", "stop", "axis", "step")
    ]
    return emit.w.node("Slice", [emit.x(op), *names], op.output)


def _pad(emit: Emitter, op: Op) -> str:
    top, left, bottom, right = op.attrs["padding"]
    dtype = emit.dtype(op.inputs[0])
    narrow = dtype != "int16"
    pads = emit.w.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    value = emit.w.const("fill", op.attrs["value"], STORAGE[dtype] if narrow else np.int32)
    name = op.output if narrow else f"{op.output}.pad"
    return emit.through(
        op,
        ("int8", "int4", "int32"),
        np.int32,
        lambda x: emit.w.node("Pad", [x, pads, value], name),
    )


def _lut(emit: Emitter, op: Op) -> str:
    w, lowest = emit.w, RANGE[emit.dtype(op.inputs[0])][0]
    index = w.cast(emit.x(op), np.int32, f"{op.output}.x")
    index = w.node("Sub", [index, w.const("lowest", lowest, np.int32)], f"{op.output}.index")
    table = w.const(op.inputs[1], emit.array(op, 1), STORAGE[op.attrs["dtype"]])
    return w.node("Gather", [table, index], op.output)


EMIT: dict[str, Callable[[Emitter, Op], str]] = {
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
