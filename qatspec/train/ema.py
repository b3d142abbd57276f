"""Exponential moving average of a model's weights (Polyak averaging)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

#: name of the observer inside every fake-quant; what it has seen is not a weight
_OBSERVER = "activation_post_process"


class WeightAverage:
    """average += (1 - d) * (weights - average), d = min(decay, (1 + n) / (10 + n)) after n steps:
    the average forgets its start quickly while few steps are done.

    Parameters and floating buffers (batch-norm statistics, quantization scales) are averaged: the
    average of weights never exceeds the average of their ranges, so averaged scales cover averaged
    weights. Counters, switches and observers' ranges (which may be infinite) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self._model = model
        self._average = {k: v.detach().clone() for k, v in _live(model).items()}

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model's present weights."""
        self.steps += 1
        rate = 1.0 - min(self.decay, (1 + self.steps) / (10 + self.steps))
        live = _live(self._model)
        averaged = [k for k in live if _is_averaged(k, live[k])]
        if averaged:
            torch._foreach_lerp_(
                [self._average[k] for k in averaged], [live[k] for k in averaged], rate
            )
        for key in live.keys() - set(averaged):
            self._average[key].copy_(live[key])

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """The model holds the average inside the block, and its own weights again after it."""
        live = _live(self._model)
        saved = {k: v.detach().clone() for k, v in live.items()}
        _copy(self._average, live)
        try:
            yield
        finally:
            _copy(saved, live)

    def state_dict(self) -> dict[str, Any]:
        """{"state_dict", "steps"}: what a checkpoint keeps."""
        return {"state_dict": self._average, "steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.steps = int(state["steps"])
        _copy(state["state_dict"], self._average)


def _live(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach() for k, v in model.state_dict(keep_vars=True).items()}


def _is_averaged(key: str, value: Tensor) -> bool:
    return value.is_floating_point() and _OBSERVER not in key.split(".")


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for key, value in source.items():
        target[key].copy_(value)
