"""Functions of torch that are a few others in a row, and pools whose input has no channels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx, nn

from qatspec.prepare import indexing, statistics
from qatspec.prepare.parts import leading_sizes


def _value(x: Any) -> Any:
    """The example value of a proxy, anything else as it is."""
    return x.node.meta.get("example") if isinstance(x, fx.Proxy) else x


def _shape(x: Any) -> tuple[int, ...]:
    return tuple((x.node.meta["example"] if isinstance(x, fx.Proxy) else x).shape)


# -- functions -----------------------------------------------------------------------------------


def _local_response_norm(
    x: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """x / (k + alpha * mean of squares over neighbouring channels) ** beta (Krizhevsky et al.
    2012, with torch's mean in place of their sum)."""
    spatial = len(_shape(x)) - 2
    if spatial not in (1, 2):
        return NotImplemented
    squares = torch.unsqueeze(x * x, 1)
    squares = F.pad(squares, (*[0] * (2 * spatial), size // 2, (size - 1) // 2))
    pool = F.avg_pool2d if spatial == 1 else F.avg_pool3d
    means = torch.squeeze(pool(squares, (size, *[1] * spatial), 1), 1)
    return x * torch.pow(means * alpha + k, -beta)


def _lp_pool(
    pool: Callable[..., Any],
    dims: int,
    x: Any,
    norm_type: float,
    kernel_size: Any,
    stride: Any = None,
    ceil_mode: bool = False,
) -> Any:
    """The root of a window's sum of powers."""
    kernel = tuple(kernel_size) if isinstance(kernel_size, (list, tuple)) else (kernel_size,) * dims
    means = pool(torch.pow(x, norm_type), kernel, stride, 0, ceil_mode)
    return torch.pow(means * math.prod(kernel), 1 / norm_type)


def _bilinear(x1: Any, x2: Any, weight: Any, bias: Any = None) -> Any:
    """x1 and x2, joined by a matrix for each output."""
    outputs, first, second = _shape(weight)
    rows = F.linear(x2, weight.reshape(outputs * first, second))
    rows = rows.reshape(*leading_sizes(rows, len(_shape(rows)) - 1), outputs, first)
    y = (rows * torch.unsqueeze(x1, -2)).sum(-1)
    return y if bias is None else y + bias


def _pairs(reduce: Callable[[Any], Any], x1: Any, x2: Any) -> Any:
    """What `reduce` makes of the last dim of the pairs of two tensors, one of which may have a
    single number along a dim behind the batch."""
    if len(_shape(x1)) != len(_shape(x2)):
        return NotImplemented
    sizes = [max(pair) for pair in zip(_shape(x1), _shape(x2), strict=True)]
    if any(_shape(x)[:1] != tuple(sizes[:1]) for x in (x1, x2)):
        return NotImplemented
    spread = [
        x.expand(*(-1 if n == m else m for n, m in zip(_shape(x), sizes, strict=True)))
        if list(_shape(x)) != sizes
        else x
        for x in (x1, x2)
    ]
    return reduce(torch.stack(spread, -1))


def _over_stack(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    """The sum of what torch.stack puts side by side, one addition after another: nothing has to
    hold all of them."""
    node = x.node if isinstance(x, fx.Proxy) else None
    if node is None or node.target is not torch.stack or keepdim or dtype is not None:
        return NotImplemented
    args: tuple[Any, ...] = node.args
    tensors: Any = args[0]
    along: Any = args[1] if len(args) > 1 else node.kwargs.get("dim", 0)
    dim = dim[0] if isinstance(dim, (list, tuple)) and len(dim) == 1 else dim
    simple = isinstance(tensors, (list, tuple)) and isinstance(dim, int) and isinstance(along, int)
    rank = len(_shape(x))
    if not simple or dim % rank != along % rank or len(node.users) > 1:
        return NotImplemented
    parts = [fx.Proxy(tensor, x.tracer) for tensor in tensors]
    total: Any = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _mean_over_stack(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
    total = _over_stack(x, dim, keepdim, dtype=dtype)
    return total if total is NotImplemented else total * (1 / len(x.node.args[0]))


def _hypot(x1: Any, x2: Any) -> Any:
    return _pairs(lambda pairs: torch.linalg.vector_norm(pairs, 2, -1), x1, x2)


def _logaddexp(x1: Any, x2: Any) -> Any:
    return _pairs(lambda pairs: statistics.logsumexp(pairs, -1), x1, x2)


def _vecdot(x1: Any, x2: Any, dim: int = -1) -> Any:
    return (x1 * x2).sum(dim)


def _diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    """The numbers of two dims whose positions are equal, as the last dim."""
    shape = _shape(x)
    one, two = dim1 % len(shape), dim2 % len(shape)
    if 0 in (one, two):
        return NotImplemented
    x = torch.movedim(x, (one, two), (-2, -1))
    rows = range(max(0, -offset), min(shape[one], shape[two] - offset))
    return indexing.pick(x, (Ellipsis, list(rows), [row + offset for row in rows]))


def _triangle(keep: Callable[..., torch.Tensor], x: Any, diagonal: int = 0) -> Any:
    """x with zeros above or below a diagonal of the last two dims."""
    if len(_shape(x)) < 3:
        return NotImplemented
    return x * x.tracer.buffer(keep(torch.ones(_shape(x)[-2:]), diagonal))


# -- pools ---------------------------------------------------------------------------------------


def _without_channels(
    pool: Callable[..., Any], dims: int, x: Any, *args: Any, **kwargs: Any
) -> Any:
    """Torch takes (images, height, width) as channels of one image; here they are images."""
    if len(_shape(x)) != dims + 1:
        return NotImplemented
    return torch.squeeze(pool(torch.unsqueeze(x, 1), *args, **kwargs), 1)


def pool_module(module: nn.Module, parameter: Any, child: Any, x: Any) -> Any:
    """A pool of images without channels, by what its forward calls."""
    if len(_shape(x)) != int(type(module).__name__[-2]) + 1:
        return NotImplemented
    return torch.squeeze(module.forward(torch.unsqueeze(x, 1)), 1)


_POOLS = {
    f"{kind}_pool{dims}d": dims
    for kind in ("max", "avg", "adaptive_max", "adaptive_avg")
    for dims in (1, 2, 3)
}
POOL_MODULES = tuple(
    getattr(nn, f"{kind}Pool{dims}d")
    for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg")
    for dims in (1, 2, 3)
)


def _max_of_two(x: Any, other: Any) -> Any:
    """torch.max of two tensors."""
    return torch.maximum(x, other) if isinstance(_value(other), torch.Tensor) else NotImplemented


def _least(x: Any, dim: Any = (), keepdim: bool = False) -> Any:
    """amin: the largest of the negated numbers, negated."""
    return -torch.amax(-x, dim, keepdim) if dim not in ((), [], None) else NotImplemented


def _min(x: Any, dim: Any = None, keepdim: bool = False, other: Any = None) -> Any:
    """The smaller of two tensors, or the least numbers along a dim and their indices."""
    if other is not None or isinstance(_value(dim), torch.Tensor):
        return torch.minimum(x, dim if other is None else other)
    if dim is None:
        return NotImplemented
    largest = torch.max(-x, dim, keepdim)
    return -largest[0], largest[1]


def _argmin(x: Any, dim: Any = None, keepdim: bool = False) -> Any:
    return torch.argmax(-x, dim, keepdim) if dim is not None else NotImplemented


def _aminmax(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        return NotImplemented
    return _least(x, dim, keepdim), torch.amax(x, dim, keepdim)


DEFINITIONS: Mapping[Any, Callable[..., Any]] = {
    **{
        getattr(package, name): partial(_without_channels, getattr(package, name), dims)
        for package in (torch, F)
        for name, dims in _POOLS.items()
        if hasattr(package, name)
    },
    F.lp_pool1d: partial(_lp_pool, F.avg_pool1d, 1),
    F.lp_pool2d: partial(_lp_pool, F.avg_pool2d, 2),
    F.lp_pool3d: partial(_lp_pool, F.avg_pool3d, 3),
    **dict.fromkeys((torch.sum, "sum"), _over_stack),
    **dict.fromkeys((torch.mean, "mean"), _mean_over_stack),
    F.local_response_norm: _local_response_norm,
    F.bilinear: _bilinear,
    **dict.fromkeys((torch.hypot, "hypot"), _hypot),
    **dict.fromkeys((torch.logaddexp, "logaddexp"), _logaddexp),
    **dict.fromkeys((torch.fmax, "fmax"), lambda x1, x2: torch.maximum(x1, x2)),
    **dict.fromkeys((torch.max, "max"), _max_of_two),
    **dict.fromkeys((torch.min, "min"), _min),
    **dict.fromkeys((torch.amin, "amin"), _least),
    **dict.fromkeys((torch.argmin, "argmin"), _argmin),
    **dict.fromkeys((torch.aminmax, "aminmax"), _aminmax),
    **dict.fromkeys((torch.fmin, "fmin"), lambda x1, x2: torch.minimum(x1, x2)),
    torch.linalg.vecdot: _vecdot,
    **dict.fromkeys((torch.diagonal, "diagonal"), _diagonal),
    **dict.fromkeys((torch.tril, "tril"), partial(_triangle, torch.tril)),
    **dict.fromkeys((torch.triu, "triu"), partial(_triangle, torch.triu)),
}
