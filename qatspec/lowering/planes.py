"""Windows along a third spatial dim, unrolled, because integer ops have two spatial dims.

Each output depth reads a few planes of the input. They become further channels (or columns) of one
picture, to which the two-dimensional op is applied. The results are joined along the depth.
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
    """Return which of `size` planes a sliding window reads at each of `out` depths. Planes of the
    padding are left out."""
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
    """Return the same for a transposed window: plane p contributes to the depths
    p * stride + k * dilation - front."""
    return [
        tuple(
            (reach // stride, k)
            for k in reversed(range(kernel))
            if (reach := depth + front - k * dilation) % stride == 0 and 0 <= reach // stride < size
        )
        for depth in range(out)
    ]


def planes(lowering: Lowering, x: ScaledInts, taps: Taps) -> ScaledInts:
    """Return the planes (C, K, H, W) that one depth reads, of x (C, D, H, W)."""
    first, last = taps[0][0], taps[-1][0]
    step = taps[1][0] - first if len(taps) > 1 else 1
    name = f"{lowering.node.name}.planes"
    return lowering.emit_same_scale(
        "slice", x, name=name, axis=2, start=first, stop=last + 1, step=step
    )


def as_channels(lowering: Lowering, x: ScaledInts) -> ScaledInts:
    """Reshape (C, K, H, W) to (C * K, H, W): the planes of a channel are neighbours, so that groups
    stay together."""
    c, k, h, w = lowering.value_shape(x)
    name = f"{lowering.node.name}.picture"
    return lowering.emit_same_scale("reshape", x, name=name, shape=(c * k, h, w))


def as_columns(lowering: Lowering, x: ScaledInts) -> ScaledInts:
    """Reorder (C, K, H, W) to (C, H, W * K): the planes of a column are neighbours."""
    c, k, h, w = lowering.value_shape(x)
    name = f"{lowering.node.name}.picture"
    x = lowering.emit_same_scale("transpose", x, name=name, perm=(0, 1, 3, 4, 2))
    return lowering.emit_same_scale("reshape", x, name=name, shape=(c, h, w * k))


def joined(lowering: Lowering, pictures: Sequence[ScaledInts]) -> ScaledInts:
    """Join results (C, H, W), one for each depth, to (C, D, H, W)."""
    c, h, w = lowering.value_shape(pictures[0])
    name = f"{lowering.node.name}.plane"
    parts = [
        lowering.emit_same_scale("reshape", picture, name=name, shape=(c, 1, h, w))
        for picture in pictures
    ]
    names = [part.value for part in parts]
    return lowering.emit("concat", names, parts[0].scale, scale_axis=parts[0].axis, axis=2)
