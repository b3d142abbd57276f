"""Batch norms over the pictures of all processes that train together.

torch's nn.SyncBatchNorm does the same for modules on CUDA devices; here any device and backend
will do, and folded and functional batch norms take part as the modules do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode


class SynchronizedBatchNorm(TorchFunctionMode):
    """A context: each batch norm called in it that takes statistics of its batch takes them of the
    batches of all processes, as if they were one; backward goes through them.

    It is the call of F.batch_norm that is replaced: modules, their keys and traced graphs stay as
    they are. Every process makes one (in the same order), and has to call the same batch norms,
    forward and backward. Batches may differ in size; empty ones are not for batch norms.

    Its messages have a process group of their own. DDP sends gradients while backward goes on, and
    where processes leave out different parameters the two kinds would mix.
    """

    def __init__(self) -> None:
        super().__init__()
        self._group = dist.new_group()

    def __torch_function__(
        self,
        func: Any,
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._batch_norm(*args, **kwargs)
        if func is torch.batch_norm:
            return self._in_torchs_order(*args, **kwargs)
        return func(*args, **kwargs)

    def _in_torchs_order(
        self,
        input: Tensor,  # noqa: A002 - torch's name, which callers may write
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        training: bool,
        momentum: float,
        eps: float,
        cudnn_enabled: bool,
    ) -> Tensor:
        return self._batch_norm(
            input, running_mean, running_var, weight, bias, training, momentum, eps
        )

    def _batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, eps=eps)
        with torch.no_grad():
            mean, variance, count = _statistics(x, self._group)
            if running_mean is not None and running_var is not None:
                unbiased = variance * (count / (count - 1))
                running_mean.lerp_(mean.to(running_mean.dtype), momentum)
                running_var.lerp_(unbiased.to(running_var.dtype), momentum)
        moments = mean.to(x.dtype), variance.to(x.dtype), count.to(x.dtype)
        return _Normalize.apply(  # type: ignore[no-any-return, no-untyped-call]
            x, weight, bias, *moments, eps, self._group
        )


def _statistics(x: Tensor, group: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Mean, biased variance and count a channel of (N, C, ...) over all processes, float64 (C,).

    Each process sends its own moments, and all put them together in one order (Chan et al. 1983):
    nothing cancels as in a difference of squares, and every process gets the same bits.
    """
    variance, mean = torch.var_mean(x, _all_but_channels(x), correction=0)
    mean, variance = mean.double(), variance.double()
    local_moments = torch.stack([mean, variance, torch.full_like(mean, x.numel() // x.shape[1])])
    every = [torch.empty_like(local_moments) for _ in range(dist.get_world_size(group))]
    dist.all_gather(every, local_moments, group=group)
    means, variances, counts = torch.stack(every, dim=1)
    count = counts.sum(dim=0)
    mean = (counts * means).sum(dim=0) / count
    variance = (counts * (variances + (means - mean).square())).sum(dim=0) / count
    return mean, variance, count


def _all_but_channels(x: Tensor) -> list[int]:
    return [dimension for dimension in range(x.ndim) if dimension != 1]


class _Normalize(torch.autograd.Function):
    """gamma (x - mean) / sqrt(variance + eps) + beta, where mean and variance are functions of the
    x of all processes (Ioffe and Szegedy 2015, section 3)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        mean: Tensor,
        variance: Tensor,
        count: Tensor,
        eps: float,
        group: Any,
    ) -> Tensor:
        ctx.save_for_backward(x, gamma, mean, variance, count)
        ctx.eps, ctx.group = eps, group
        return F.batch_norm(x, mean, variance, gamma, beta, eps=eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, gamma, mean, variance, count = ctx.saved_tensors
        channels = [-1] + [1] * (x.ndim - 2)
        scale = torch.rsqrt(variance + ctx.eps)
        normal = (x - mean.reshape(channels)) * scale.reshape(channels)
        every = _all_but_channels(x)
        # The parameters' gradients stay this process's own: DDP adds up all parameters'.
        to_beta, to_gamma = gradient.sum(every), (gradient * normal).sum(every)
        to_x = None
        if ctx.needs_input_grad[0]:
            shared = torch.stack([to_beta, to_gamma])
            dist.all_reduce(shared, group=ctx.group)
            along_mean, along_scale = (shared / count).reshape(2, *channels)
            factor = (scale if gamma is None else scale * gamma).reshape(channels)
            to_x = factor * (gradient - along_mean - normal * along_scale)
        return (
            to_x,
            to_gamma if ctx.needs_input_grad[1] else None,
            to_beta if ctx.needs_input_grad[2] else None,
            *[None] * 5,
        )
