"""A third spatial dim: integer ops work on pictures, so what slides along the depth is unrolled.

Each output depth meets a few planes of the input; they become further channels (or columns) of one
picture, on which the op is the 2-d one. The results are joined along the depth again.
"""

from __future__ import annotations

from collections.abc import Sequence

from qatspec.lowering.lowering import Lowering
from qatspec.lowering.pending import ScaledInts

#: (plane of the input, index into the kernel), planes ascending.
Taps = tuple[tuple[int, int], ...]


def window_taps(
    size: int, out: int, kernel: int, stride: int, dilation: int, front: int
) -> list[Taps]:
    """What each of `out` depths of a sliding window meets of `size` planes; padding meets none."""
    return [
        tuple(
            (plane, k)
            for k in range(kernel)
            if 0 <= (plane := depth * stride - front + k * dilation) < size
        )
        for depth in range(out)
    ]


def transposed_taps(
    size: int, out: int, kernel: int, stride: int, dilation: int, front: int
) -> list[Taps]:
    """The same of a transposed window: plane p spreads to the depths p * stride + k * dilation."""
    return [
        tuple(
            (reach // stride, k)
            for k in reversed(range(kernel))
            if (reach := depth + front - k * dilation) % stride == 0 and 0 <= reach // stride < size
        )
        for depth in range(out)
    ]


def planes(lowering: Lowering, x: ScaledInts, taps: Taps) -> ScaledInts:
    """The planes (C, K, H, W) that one depth meets, of x (C, D, H, W)."""
    first, last = taps[0][0], taps[-1][0]
    step = taps[1][0] - first if len(taps) > 1 else 1
    name = f"{lowering.node.name}.planes"
    return lowering.emit_same_scale(
        "slice", x, name=name, axis=2, start=first, stop=last + 1, step=step
    )


def as_channels(lowering: Lowering, seen: ScaledInts) -> ScaledInts:
    """(C, K, H, W) -> (C * K, H, W): the planes of one channel side by side, groups together."""
    c, k, h, w = lowering.value_shape(seen)
    name = f"{lowering.node.name}.picture"
    return lowering.emit_same_scale("reshape", seen, name=name, shape=(c * k, h, w))


def as_columns(lowering: Lowering, seen: ScaledInts) -> ScaledInts:
    """(C, K, H, W) -> (C, H, W * K): the planes of one column side by side."""
    c, k, h, w = lowering.value_shape(seen)
    name = f"{lowering.node.name}.picture"
    seen = lowering.emit_same_scale("transpose", seen, name=name, perm=(0, 1, 3, 4, 2))
    return lowering.emit_same_scale("reshape", seen, name=name, shape=(c, h, w * k))


def joined(lowering: Lowering, pictures: Sequence[ScaledInts]) -> ScaledInts:
    """Results (C, H, W), one a depth, as (C, D, H, W)."""
    c, h, w = lowering.value_shape(pictures[0])
    name = f"{lowering.node.name}.plane"
    parts = [
        lowering.emit_same_scale("reshape", picture, name=name, shape=(c, 1, h, w))
        for picture in pictures
    ]
    names = [part.value for part in parts]
    return lowering.emit("concat", names, parts[0].scale, scale_axis=parts[0].axis, axis=2)
