"""Pools, pads, resizes and tables on uint8."""

from __future__ import annotations

from typing import Any

import numpy as np

from qatspec.export.fast.values import Values
from qatspec.ir import Op
from qatspec.kinds.resizes.taps import bilinear_taps
from qatspec.kinds.tables.segments import entries


def max_pool(emit: Values, op: Op) -> str:
    """Padded by hand: ONNX bounds its own padding by the kernel."""
    a, graph, x = op.attrs, emit.graph, emit.unsigned(op.inputs[0])
    if any(a["padding"]):
        x = _padded(emit, x, op, emit.lowest(op.inputs[0]))
    attrs: dict[str, Any] = {
        "kernel_shape": list(a["kernel"]),
        "strides": list(a["stride"]),
        "dilations": list(a["dilation"]),
    }
    return graph.node("MaxPool", [x], op.output, **attrs)


def pad(emit: Values, op: Op) -> str:
    return _padded(
        emit, emit.unsigned(op.inputs[0]), op, op.attrs["value"] + emit.zero_point(op.output)
    )


def _padded(emit: Values, x: str, op: Op, level: int) -> str:
    top, left, bottom, right = op.attrs["padding"]
    pads = emit.graph.const(f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64)
    fill = emit.graph.const("fill", level, np.uint8)
    return emit.graph.node("Pad", [x, pads, fill], f"{op.output}.pad")


def resize_nearest(emit: Values, op: Op) -> str | None:
    """Rows and columns repeated by joining pixels with themselves, channel innermost: four times
    as fast as onnxruntime's Resize. None where they do not repeat equally often."""
    graph, name = emit.graph, op.output
    (channels, *before), after = emit.shape(op.inputs[0]), op.attrs["size"]
    if any(b % a for a, b in zip(before, after, strict=True)):
        return None
    down, across = (b // a for a, b in zip(before, after, strict=True))
    x = graph.node("Transpose", [emit.unsigned(op.inputs[0])], f"{name}.last", perm=[0, 2, 3, 1])
    row = after[1] * channels
    for times, axis, shape in (
        (across, 3, [0, before[0], 1, row]),
        (down, 2, [0, *after, channels]),
    ):
        if times > 1:
            x = graph.node("Concat", [x] * times, f"{name}.repeated", axis=axis)
        x = graph.node(
            "Reshape", [x, graph.const(f"{name}.shape", shape, np.int64)], f"{name}.rows"
        )
    return graph.node("Transpose", [x], name, perm=[0, 3, 1, 2])


def real_bilinear(emit: Values, op: Op, factor: np.ndarray, axis: int) -> str | None:
    """A bilinear resize times m / 2^s, as float32. The Program rounds its weights to 2^-bits, here
    they are not rounded: None where that may be half an integer of the result."""
    before, after = emit.shape(op.inputs[0])[1:], op.attrs["size"]
    factor = factor * (1 << (2 * op.attrs["bits"]))
    corners, bits = op.attrs["align_corners"], op.attrs["bits"]
    off = sum(_rounded_off(*sizes, corners, bits) for sizes in zip(before, after, strict=True))
    if off * 255 * np.abs(factor).max() >= 0.5:
        return None
    x = emit.real(op.inputs[0], factor, axis)
    mode = "align_corners" if corners else "half_pixel"
    # scales, because sizes would fix the batch
    scales = [1.0, 1.0, *(whole_scale(a, b) for a, b in zip(before, after, strict=True))]
    names = [x, "", emit.graph.const(f"{op.output}.scales", scales, np.float32)]
    return emit.graph.node(
        "Resize", names, f"{op.output}.resized", mode="linear", coordinate_transformation_mode=mode
    )


def _rounded_off(size: int, out: int, align_corners: bool, bits: int) -> float:
    """The largest distance of the weights of a resize in one direction to their roundings."""
    places = np.arange(out)
    if align_corners:
        exact = places * (size - 1) / max(out - 1, 1)
    else:
        exact = np.maximum((places + 0.5) * size / out - 0.5, 0)
    low, _, weight = bilinear_taps(size, out, align_corners, bits)
    return float(np.abs(exact - low - weight / 2.0**bits).max())


def whole_scale(before: int, after: int) -> float:
    """A float32 scale of which ONNX computes the size `after`, floor(before * scale)."""
    scale = np.float32(after / before)
    return float(
        scale if before * float(scale) >= after else np.nextafter(scale, np.float32(2**30))
    )


def mean(emit: Values, op: Op, requant: Op, factor: np.ndarray) -> str | None:
    """The sum of an image and the requantization behind it: QLinearGlobalAveragePool. None where
    other dims are summed."""
    shape = emit.shape(op.inputs[0])
    if len(shape) != 3 or tuple(op.attrs["axes"]) != (2, 3) or factor.size > 1:
        return None
    x = emit.real(op.inputs[0], factor * (shape[1] * shape[2]), None)
    y = emit.quantized(emit.graph.node("GlobalAveragePool", [x], f"{op.output}.mean"), requant)
    if op.attrs["keepdim"]:
        return y
    flat = emit.graph.const(f"{op.output}.shape", [0, *emit.shape(op.output)], np.int64)
    return emit.graph.node("Reshape", [y, flat], f"{requant.output}.flat")


def lut(emit: Values, op: Op) -> str | None:
    """The uint8 is the index itself where the table is as long as int8's. None for results of more
    than 8 bits."""
    if not emit.is_narrow(op.output):
        return None
    graph, first = emit.graph, emit.lowest(op.inputs[0])
    index = graph.cast(emit.unsigned(op.inputs[0]), np.int32, f"{op.output}.index")
    if first:
        index = graph.node(
            "Sub", [index, graph.const("first", first, np.int32)], f"{op.output}.first"
        )
    levels = entries(op, emit.array).astype(np.int64) + emit.zero_point(op.output)
    table = graph.const(op.inputs[1], levels, np.uint8)
    return graph.node("Gather", [table, index], op.output)
