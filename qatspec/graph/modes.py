"""Training and evaluation mode for a while, module by module: a model may hold frozen parts."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Every module is in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside."""
    with kept_modes(model):
        model.eval()
        yield


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Let torch's transformer layers run the same code in evaluation as in training inside. In
    evaluation they otherwise call one fused kernel that computes the same."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
