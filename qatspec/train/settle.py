"""Statistics of batch norms that have not seen a picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


def settle(model: nn.Module, batches: Iterable[Sequence[Tensor]]) -> int:
    """Give fresh batch norms the statistics of some batches, so that the model can be judged.

    With a momentum of 0.1, a few steps leave the initial mean 0 and variance 1 in charge: in
    evaluation mode the signal of a deep network then vanishes or overflows, and ranges, integers
    and metrics say nothing. The statistics become the plain average over the batches.

    model    is left in training mode; no parameter changes.
    batches  the inputs of forward, on the model's device.

    Returns how many batch norms were fresh. Others, which were loaded or trained, keep their
    statistics.
    """
    model.train()
    with averaging(model) as fresh, torch.no_grad(), _others_stand(model, fresh):
        for batch in batches if fresh else ():
            model(*batch)
    return len(fresh)


@contextmanager
def averaging(model: nn.Module) -> Iterator[list[nn.Module]]:
    """Inside, each fresh batch norm averages over all its batches alike.

    Gives the fresh ones: those whose running mean is 0 and variance 1 in every channel."""
    fresh: list[Any] = [module for module in model.modules() if _is_fresh(module)]
    momenta = [module.momentum for module in fresh]
    hooks = [module.register_forward_pre_hook(_Average()) for module in fresh]
    try:
        yield fresh
    finally:
        for module, momentum, hook in zip(fresh, momenta, hooks, strict=True):
            hook.remove()
            module.momentum = momentum


class _Average:
    """Sets a module's momentum to 1 / n at its n-th call, which makes its statistics an average."""

    def __init__(self) -> None:
        self._calls = 0

    def __call__(self, module: Any, inputs: object) -> None:
        self._calls += 1
        module.momentum = 1.0 / self._calls


@contextmanager
def _others_stand(model: nn.Module, fresh: list[nn.Module]) -> Iterator[None]:
    """Buffers of modules that are not `fresh` have their values again behind the block."""
    kept = [
        (buffer, buffer.clone())
        for module in model.modules()
        if module not in fresh
        for buffer in module.buffers(recurse=False)
    ]
    try:
        yield
    finally:
        for buffer, before in kept:
            buffer.copy_(before)


def _is_fresh(module: nn.Module) -> bool:
    mean, variance = (getattr(module, f"running_{name}", None) for name in ("mean", "var"))
    if not isinstance(mean, Tensor) or not isinstance(variance, Tensor):
        return False
    if not hasattr(module, "momentum"):
        return False
    return bool((mean == 0).all()) and bool((variance == 1).all())
