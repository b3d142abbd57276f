"""Variances, deviations and lengths as the sums and roots that they consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf, prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import fx

Definition = Callable[..., Any]


def _example(x: Any) -> torch.Tensor:
    value: torch.Tensor = x.node.meta["example"] if isinstance(x, fx.Proxy) else x
    return value


def _dims(x: Any, dim: Any) -> tuple[int, ...]:
    """Dims as a reduction takes them; all where none is given."""
    rank = _example(x).ndim
    if dim is None or (not isinstance(dim, int) and not len(dim)):
        return tuple(range(rank))
    return tuple(d % rank for d in ((dim,) if isinstance(dim, int) else dim))


def _var_and_mean(
    x: Any, dim: Any, correction: Any, unbiased: bool, keepdim: bool
) -> tuple[Any, Any]:
    dims = _dims(x, dim)
    count = prod(_example(x).shape[d] for d in dims)
    correction = int(unbiased) if correction is None else correction
    mean = x.mean(dims, keepdim=True)
    apart = x - mean
    var = (apart * apart).mean(dims, keepdim=keepdim)
    if count > correction and correction:
        var = var * (count / (count - correction))
    if not keepdim:
        mean = x.mean(dims)
    return var, mean


def _var(
    x: Any, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """The mean of the squared distances from the mean, times n / (n - correction)."""
    if isinstance(dim, bool):  # var(unbiased)
        dim, unbiased = None, dim
    return _var_and_mean(x, dim, correction, unbiased, keepdim)[0]


def _std(x: Any, *args: Any, **kwargs: Any) -> Any:
    return torch.sqrt(_var(x, *args, **kwargs))


def _var_mean(
    x: Any, dim: Any = None, unbiased: Any = True, keepdim: bool = False, *, correction: Any = None
) -> Any:
    return _var_and_mean(x, dim, correction, unbiased, keepdim)


def _std_mean(*args: Any, **kwargs: Any) -> Any:
    var, mean = _var_mean(*args, **kwargs)
    return torch.sqrt(var), mean


def length(
    x: Any, p: Any = "fro", dim: Any = None, keepdim: bool = False, out: Any = None, **rest: Any
) -> Any:
    """The length along dims. The derivative of a Euclidean one at zero is zero, unlike that of a
    root."""
    if any(v is not None for v in rest.values()) or p not in (1, 2, inf, "fro", None):
        return NotImplemented
    dims = _dims(x, dim)
    if p == 1:
        return torch.abs(x).sum(dims, keepdim=keepdim)
    if p == inf:
        return torch.abs(x).amax(dims, keepdim=keepdim)
    return NotImplemented if dim is None else torch.linalg.vector_norm(x, 2, dim, keepdim)


def _vector_norm(
    x: Any, order: Any = 2, dim: Any = None, keepdim: bool = False, **rest: Any
) -> Any:
    order = rest.pop("ord", order)
    return NotImplemented if order == 2 else length(x, order, dim, keepdim, **rest)


def _normalize(x: Any, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Any = None) -> Any:
    """x / max(length, eps)."""
    size = NotImplemented if out is not None else length(x, p, dim, True)
    return NotImplemented if size is NotImplemented else x / torch.clamp(size, min=eps)


def _cosine_similarity(x1: Any, x2: Any, dim: int = 1, eps: float = 1e-8) -> Any:
    """The product of both, each divided by its length."""
    sizes = (torch.linalg.vector_norm(x, 2, dim, True) for x in (x1, x2))
    a, b = (x / torch.clamp(size, min=eps) for x, size in zip((x1, x2), sizes, strict=True))
    return (a * b).sum(dim)


def _pairwise_distance(
    x1: Any, x2: Any, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Any:
    """The length of the difference, to which torch adds eps."""
    return length(x1 - x2 + eps, p, -1, keepdim)


def logsumexp(x: Any, dim: Any, keepdim: bool = False) -> Any:
    """The largest number, and the logarithm of the sum of exponentials of what is below it."""
    largest = x.amax(dim, keepdim=True)
    rest = torch.log(torch.exp(x - largest).sum(dim, keepdim=keepdim))
    return rest + (largest if keepdim else x.amax(dim))


DEFINITIONS: Mapping[Any, Definition] = {
    **dict.fromkeys((torch.var, "var"), _var),
    **dict.fromkeys((torch.std, "std"), _std),
    torch.var_mean: _var_mean,
    torch.std_mean: _std_mean,
    **dict.fromkeys((torch.norm, "norm"), length),
    torch.linalg.vector_norm: _vector_norm,
    F.normalize: _normalize,
    F.cosine_similarity: _cosine_similarity,
    F.pairwise_distance: _pairwise_distance,
    **dict.fromkeys((torch.logsumexp, "logsumexp"), logsumexp),
}
