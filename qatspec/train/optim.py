"""Optimizers and learning-rate schedules that specs name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from qatspec.spec import Component


def build_optimizer(model: nn.Module, component: Component) -> torch.optim.Optimizer:
    """Build the optimizer over every parameter that takes gradients.

    component: a trainer's `optimizer`, with every key that the schema has for its type. Weight
    decay applies to weights (two and more dimensions) alone: decaying a learned scale would shrink
    its range, and biases and batch-norm parameters do not add capacity.
    """
    settings = dict(component.params)
    decay = settings.pop("weight_decay")
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if "betas" in settings:
        settings["betas"] = tuple(settings["betas"])
    return _OPTIMIZERS[component.type]([g for g in groups if g["params"]], **settings)


_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "sgd": torch.optim.SGD,
    "adamw": torch.optim.AdamW,
}


def tensors_per_parameter(component: Component) -> int:
    """Return how many tensors of a parameter's shape the optimizer keeps for each parameter."""
    return 2 if component.type == "adamw" else int(component.params["momentum"] != 0)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The learning rate of a step, as a factor of the optimizer's own: a pure function of the step,
    so that resuming needs nothing but the step's number."""

    base: tuple[float, ...]
    factor: Callable[[int], float]

    def apply(self, optimizer: torch.optim.Optimizer, step: int) -> float:
        """Set the learning rate of optimizer step `step` (from 0) and return that of the first
        group."""
        for group, base in zip(optimizer.param_groups, self.base, strict=True):
            group["lr"] = base * self.factor(step)
        return float(optimizer.param_groups[0]["lr"])


def build_schedule(
    optimizer: torch.optim.Optimizer, component: Component, *, steps: int, epoch_steps: int
) -> Schedule:
    """Build the learning rate's schedule.

    component: a trainer's `scheduler`, with every key that the schema has for its type. steps:
    optimizer steps of the whole stage; epoch_steps: of one epoch.
    """
    base = tuple(float(group["lr"]) for group in optimizer.param_groups)
    return Schedule(base, _SCHEDULES[component.type](component, base[0], steps, epoch_steps))


def _constant(_c: Component, _lr: float, _steps: int, _epoch: int) -> Callable[[int], float]:
    return lambda step: 1.0


def _cosine(component: Component, lr: float, steps: int, _epoch: int) -> Callable[[int], float]:
    """Linear warm-up, then half a cosine down to min_lr (Loshchilov & Hutter 2017, one cycle)."""
    warmup = int(component.params["warmup_steps"])
    floor = float(component.params["min_lr"]) / lr

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / (warmup + 1)
        done = min(1.0, (step - warmup) / max(1, steps - warmup))
        return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * done))

    return factor


def _step(component: Component, _lr: float, _steps: int, epoch: int) -> Callable[[int], float]:
    """Multiply by `factor` at the start of each epoch of `epochs`."""
    edges: Iterable[int] = component.params["epochs"]
    drop = float(component.params["factor"])
    return lambda step: drop ** sum(step >= edge * epoch for edge in edges)


_SCHEDULES: dict[str, Callable[[Component, float, int, int], Callable[[int], float]]] = {
    "constant": _constant,
    "cosine": _cosine,
    "step": _step,
}
