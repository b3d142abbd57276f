"""Pools, padding and resizes of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qatspec.api import Op
from qatspec_litert import kernels
from qatspec_litert.writer import NotHeldError, Sums, Writer, file_shape

SAME, VALID = 0, 1


def padded_window(
    writer: Writer,
    x: str,
    reach: Sequence[int],
    attrs: Mapping[str, Any],
    shape: tuple[int, ...],
    value: int,
) -> tuple[int, int]:
    """(tensor, padding option) for a window of `reach` over the picture x. shape: (C, H, W) of the
    result. value: what is padded, in the Program's integers."""
    top, left, bottom, right = attrs["padding"]
    sizes = writer.shape(x)[1:]
    tensor = writer.small(x)
    if not any(attrs["padding"]):
        return tensor, VALID
    same = [
        kernels.same_padding(*of_axis)
        for of_axis in zip(sizes, attrs["stride"], reach, strict=True)
    ]
    counts = [-(-n // s) for n, s in zip(sizes, attrs["stride"], strict=True)]
    if same == [(top, bottom), (left, right)] and list(shape[1:]) == counts:
        return tensor, SAME
    return surrounded(writer, x, tensor, attrs["padding"], value), VALID


def surrounded(writer: Writer, x: str, tensor: int, padding: Sequence[int], value: int) -> int:
    """The picture with `value` around it."""
    top, left, bottom, right = padding
    pads = writer.ints(f"{x}.pads", [(0, 0), (top, bottom), (left, right), (0, 0)])
    _, height, width, channels = writer.shape_of(tensor)
    shape = (1, height + top + bottom, width + left + right, channels)
    made = writer.like(tensor, shape, "padded")
    if value == 0:
        return writer.file.op("PAD", [tensor, pads], made)
    return writer.file.op("PADV2", [tensor, pads, writer.level(x, value)], made)


def max_pool(writer: Writer, op: Op) -> None:
    """Padding never wins: it is the lowest integer, or 0 where nothing is below 0."""
    if tuple(op.attrs["dilation"]) != (1, 1):
        raise NotHeldError("TFLite's max pool has no dilation", "use a pool without dilation")
    x, shape = op.inputs[0], writer.shape(op.output)
    lowest = 0 if _not_negative(writer, x) else -128
    source, padding = padded_window(writer, x, op.attrs["kernel"], op.attrs, shape, lowest)
    made = writer.result(op.output)
    (kh, kw), (sh, sw) = op.attrs["kernel"], op.attrs["stride"]
    writer.tensors[op.output] = writer.file.op(
        "MAX_POOL_2D", [source], made,
        padding=padding, filterHeight=kh, filterWidth=kw, strideH=sh, strideW=sw,
    )  # fmt: skip


def _not_negative(writer: Writer, name: str) -> bool:
    if writer.program.values[name].dtype == "uint8":
        return True
    made = next((op for op in writer.program.ops if op.output == name), None)
    if made is None:
        return False
    if made.kind in ("requant", "clamp"):
        return bool(made.attrs["low"] >= 0)
    return made.kind in ("max_pool", "resize_nearest") and _not_negative(writer, made.inputs[0])


def pad(writer: Writer, op: Op) -> None:
    x = op.inputs[0]
    tensor = writer.small(x)
    writer.tensors[op.output] = surrounded(
        writer, x, tensor, op.attrs["padding"], op.attrs["value"]
    )


def resize_nearest(writer: Writer, op: Op) -> None:
    x, size = op.inputs[0], op.attrs["size"]
    for before, after in zip(writer.shape(x)[1:], size, strict=True):
        wanted = np.array([i * before // after for i in range(after)])
        if not np.array_equal(kernels.nearest(before, after), wanted):
            raise NotHeldError(
                f"LiteRT reads other pixels when it resizes {before} to {after}",
                "resize by a whole number",
            )
    operands = [writer.small(x), writer.ints(f"{op.output}.size", size)]
    made = writer.result(op.output)
    writer.tensors[op.output] = writer.file.op("RESIZE_NEAREST_NEIGHBOR", operands, made)


def check_bilinear(writer: Writer, op: Op) -> None:
    """Hold the pixels and weights of LiteRT's kernel against those of the Program."""
    writer.small(op.inputs[0])
    bits = 10 if writer.form == "double_high" else 11
    if op.attrs["bits"] != bits:
        raise NotHeldError(f"its weights have {op.attrs['bits']} bits: {writer.march} has {bits}")
    aligned = op.attrs["align_corners"]
    for before, after in zip(writer.shape(op.inputs[0])[1:], op.attrs["size"], strict=True):
        low, high, weight = kernels.bilinear_taps(writer.form, before, after, aligned)
        positions = (low << bits) + (high - low) * weight
        if not np.array_equal(positions, _positions(before, after, aligned, bits)):
            raise NotHeldError(
                f"LiteRT weighs pixels otherwise when it resizes {before} to {after}",
                "resize by 2, 4 or 8 without align_corners",
            )
    writer.sums[op.output] = Sums(op)


def _positions(size: int, out: int, aligned: bool, bits: int) -> np.ndarray:
    """Where the kind resize_bilinear reads, in steps of 2^-bits, rounded half up."""
    i = np.arange(out)
    if aligned:
        above, below = i * (size - 1), max(out - 1, 1)
    else:
        above, below = np.maximum((2 * i + 1) * size - out, 0), 2 * out
    steps = (2 * (above << bits) + below) // (2 * below)
    return np.asarray(np.minimum(steps, (size - 1) << bits))


def bilinear(writer: Writer, op: Op, requant: Op) -> None:
    """A resize with the rounding to its operand's grid."""
    x, a = op.inputs[0], requant.attrs
    m, shift = (int(writer.const(name)[0]) for name in requant.inputs[-2:])
    if writer.form == "double_high":
        as_kernel = (a.get("lift"), m, shift) == (1, 1 << 30, 20)
    else:
        as_kernel = ("form" not in a) and (m, shift, a["rounding"]) == (1, 22, "half_up")
    if not as_kernel or writer.scale(requant.output) != writer.scale(x):
        raise NotHeldError("LiteRT's resize rounds to the grid of its operand")
    operands = [writer.small(x), writer.ints(f"{op.output}.size", op.attrs["size"])]
    aligned = bool(op.attrs["align_corners"])
    writer.tensors[requant.output] = writer.rounded(
        requant, "RESIZE_BILINEAR", operands, file_shape(writer.shape(op.output)),
        alignCorners=aligned, halfPixelCenters=not aligned,
    )  # fmt: skip
