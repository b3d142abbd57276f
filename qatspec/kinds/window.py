"""The geometry of windows that slide over an image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qatspec.kinds.attributes import Malformed


def windows(
    shape: Sequence[int], attrs: Mapping[str, Any], kernel: Sequence[int], dilation: Sequence[int]
) -> tuple[int, int]:
    """Rows and columns of the result of a window over (C, H, W).

    attrs: "stride" (2) and "padding" (top, left, bottom, right).
    """
    top, left, bottom, right = attrs["padding"]
    padded = shape[1] + top + bottom, shape[2] + left + right
    rows, columns = (
        (size - d * (k - 1) - 1) // stride + 1
        for size, k, d, stride in zip(padded, kernel, dilation, attrs["stride"], strict=True)
    )
    return rows, columns


def demand_inside(attrs: Mapping[str, Any], kernel: Sequence[int], dilation: Sequence[int]) -> None:
    """No window may lie in the padding alone. Raises Malformed."""
    top, left, bottom, right = attrs["padding"]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True)]
    if max(top, bottom) >= reach[0] or max(left, right) >= reach[1]:
        raise Malformed("the padding is as wide as the window")
