"""Parts of tensors by their positions: turned, repeated, taken in windows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

from qatspec.graph.constants import is_constant


def _value(x: Any) -> Any:
    """The example value of a proxy, anything else as it is."""
    return x.node.meta["example"] if isinstance(x, fx.Proxy) else x


def _shape(x: Any) -> tuple[int, ...]:
    return tuple(_value(x).shape)


def _index_select(x: Any, dim: int, index: Any) -> Any:
    return _along(x, dim, index) if is_constant(index) else NotImplemented


def _along(x: Any, dim: int, index: Any) -> Any:
    """x[..., index, ...] along a dim, for numbers or a constant tensor of them."""
    dims = [slice(None)] * (dim % len(_shape(x)))
    places = (*dims, index if isinstance(index, fx.Proxy) else list(index))
    return x[places]


def flip(x: Any, *places: Any, dims: Any = ()) -> Any:
    """x in reverse order along dims."""
    for dim in (*listed(places), *([dims] if isinstance(dims, int) else dims)):
        x = _along(x, dim, reversed(range(_shape(x)[dim])))
    return x


def _roll(x: Any, shifts: Any, dims: Any = None) -> Any:
    if dims is None:
        return NotImplemented
    pairs = [(shifts, dims)] if isinstance(shifts, int) else list(zip(shifts, dims, strict=True))
    for shift, dim in pairs:
        size = _shape(x)[dim]
        if shift % size:
            # from the nearer end, so that the positions hold for other sizes, too
            split = -shift if abs(shift) < size else size - shift % size
            parts = [_along_range(x, dim, split, None), _along_range(x, dim, None, split)]
            x = torch.cat(parts, dim)
    return x


def _along_range(x: Any, dim: int, start: int | None, stop: int | None) -> Any:
    dims = [slice(None)] * (dim % len(_shape(x)))
    part = (*dims, slice(start, stop))
    return x[part]


def _repeat(x: Any, *sizes: Any, repeats: Any = (), dims: Any = ()) -> Any:
    """Each dim as often as its number says; more numbers than dims put dims in front. A number that
    follows the sizes of the input gives a new dim of that size, which is merged with its dim."""
    times = (*listed(sizes), *repeats, *dims)
    if not all(isinstance(_value(n), int) for n in times):
        return NotImplemented
    if is_constant(x) and any(isinstance(n, fx.Proxy) for n in times):
        return NotImplemented  # its numbers are known
    for _ in range(len(times) - len(_shape(x))):
        x = torch.unsqueeze(x, 0)
    for dim, count in enumerate(times, len(_shape(x)) - len(times)):
        if isinstance(count, fx.Proxy):
            x = _repeated(x, dim, count)
        elif count != 1:
            x = torch.cat([x] * count, dim) if count else _along_range(x, dim, 0, 0)
    return x


def _repeated(x: Any, dim: int, count: Any) -> Any:
    """x one time after the other along a dim."""
    sizes = [-1] * len(_shape(x))
    if _shape(x)[dim] == 1:
        sizes[dim] = count
        return x.expand(*sizes)
    sizes.insert(dim, count)
    return torch.flatten(torch.unsqueeze(x, dim).expand(*sizes), dim, dim + 1)


def repeat_interleave(x: Any, repeats: Any, dim: Any = None, **settings: Any) -> Any:
    """Each part along a dim several times in turn: a new dim behind it, which is merged with it.
    The dim may be the batch, and the number may follow the sizes of the input."""
    if not isinstance(_value(repeats), int) or dim is None or settings:
        return NotImplemented
    rank = len(_shape(x))
    at = dim % rank
    wide = torch.unsqueeze(x, at + 1)
    sizes = [-1] * (rank + 1)
    sizes[at + 1] = repeats
    return torch.flatten(wide.expand(*sizes), at, at + 1)


def _unfold_dim(x: Any, dimension: int, size: int, step: int) -> Any:
    """Windows of one dim: it becomes their number, and their size is a last dim."""
    shape = _shape(x)
    dim = dimension % len(shape)
    count = (shape[dim] - size) // step + 1
    parts = _along(x, dim, [i * step + k for i in range(count) for k in range(size)])
    apart = parts.reshape(*leading_sizes(x, dim), count, size, *shape[dim + 1 :])
    order = [*range(dim + 1), *range(dim + 2, len(shape) + 1), dim + 1]
    return torch.permute(apart, order)


def leading_sizes(x: Any, stop: int) -> list[Any]:
    """The first sizes of a tensor, the batch as the model itself reads it."""
    return [x.size(0), *_shape(x)[1:stop]] if stop else []


def _unfold(x: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> Any:
    """(N, C, H, W) -> (N, C * kernel positions, windows): a slice for each position."""
    (kh, kw), (dh, dw), (ph, pw), (sh, sw) = (
        (v, v) if isinstance(v, int) else v for v in (kernel_size, dilation, padding, stride)
    )
    if ph or pw:
        x = F.pad(x, (pw, pw, ph, ph))
    _, channels, height, width = _shape(x)
    rows, columns = (height - dh * (kh - 1) - 1) // sh + 1, (width - dw * (kw - 1) - 1) // sw + 1
    parts = []
    for i, j in product(range(kh), range(kw)):
        down = slice(i * dh, i * dh + sh * (rows - 1) + 1, sh)
        across = slice(j * dw, j * dw + sw * (columns - 1) + 1, sw)
        parts.append(x[:, :, down, across])
    stacked = torch.stack(parts, 2)
    return stacked.reshape(x.size(0), channels * kh * kw, rows * columns)


def _fold(
    x: Any, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
) -> Any:
    """(N, C * kernel positions, windows) -> (N, C, H, W), the sum of the windows: a transposed conv
    whose weights are 1 at the position of their channel, and 0 elsewhere."""
    size, kernel, apart, around, step = (
        (v, v) if isinstance(v, int) else tuple(v)
        for v in (output_size, kernel_size, dilation, padding, stride)
    )
    if len(_shape(x)) != 3:
        return NotImplemented
    positions = math.prod(kernel)
    channels = _shape(x)[1] // positions
    reach = [d * (k - 1) + 1 for d, k in zip(apart, kernel, strict=True)]
    spare = [n + 2 * p - r for n, p, r in zip(size, around, reach, strict=True)]
    windows = [n // s + 1 for n, s in zip(spare, step, strict=True)]
    left = [n % s for n, s in zip(spare, step, strict=True)]
    ones = torch.eye(positions).reshape(positions, 1, *kernel).repeat(channels, 1, 1, 1)
    x = x.reshape(x.size(0), channels * positions, *windows)
    return F.conv_transpose2d(x, x.tracer.buffer(ones), None, step, around, left, channels, apart)


def listed(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """A list that may also be given spread out."""
    return tuple(values[0]) if len(values) == 1 and isinstance(values[0], (list, tuple)) else values


DEFINITIONS: Mapping[Any, Callable[..., Any]] = {
    **dict.fromkeys((torch.index_select, "index_select"), _index_select),
    **dict.fromkeys((torch.flip, "flip"), flip),
    **dict.fromkeys((torch.roll, "roll"), _roll),
    **dict.fromkeys(("repeat", "tile", torch.tile), _repeat),
    **dict.fromkeys((torch.repeat_interleave, "repeat_interleave"), repeat_interleave),
    "unfold": _unfold_dim,
    F.unfold: _unfold,
    F.fold: _fold,
}
