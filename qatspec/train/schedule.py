"""Learning-rate schedules that specs name: torch's own classes.

A class of torch changes the rates of an optimizer. Each here changes that of an optimizer of its
own, which trains nothing: the rate of a step is their product, so that a warm-up stands before any
of them, and every group of the model's optimizer keeps its proportion to the trainer's `lr`
(ADR 0117).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch.optim.lr_scheduler import (
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    StepLR,
)

from qatspec.diag.codes import QS901
from qatspec.spec import Component


class _Extent(NamedTuple):
    """Optimizer steps: of the training behind its warm-up, and of one epoch."""

    steps: int
    epoch: int


_Optimizer = torch.optim.Optimizer
_Params = Mapping[str, Any]


class Schedule:
    """The learning rates of an optimizer over a training.

    optimizer: its groups' rates are changed. component: a trainer's `scheduler`, with every key
    that the schema has for its type. steps: optimizer steps of the whole stage; epoch_steps: of one
    epoch.
    """

    def __init__(
        self, optimizer: _Optimizer, component: Component, *, steps: int, epoch_steps: int
    ) -> None:
        rate = float(optimizer.defaults["lr"])
        self._optimizer = optimizer
        self._parts = tuple(float(group["lr"]) / rate for group in optimizer.param_groups)
        # one_cycle begins low by itself and has no warm-up
        self._warmup = int(component.params.get("warmup_steps") or 0)
        self._ramp = LinearLR(_carrier(1.0), 1 / (self._warmup + 1), 1.0, max(1, self._warmup))
        make, self._waits = _SCHEDULES[component.type]
        rest = steps - self._warmup if self._waits else steps
        self._main = make(_carrier(rate), component.params, _Extent(max(1, rest), epoch_steps))
        for scheduler in (self._ramp, self._main):
            scheduler.optimizer.step()  # torch warns where no optimizer steps before its schedule

    @property
    def rate(self) -> float:
        """The learning rate of the step that is next, for parameters without a group."""
        # a class that computes a rate from the one before may end below 0, in the last bits
        rate = max(0.0, float(self._main.get_last_lr()[0]))
        return rate * float(self._ramp.get_last_lr()[0]) if self._warms_up else rate

    @property
    def _warms_up(self) -> bool:
        return self._ramp.last_epoch < self._warmup

    def apply(self) -> float:
        """Set the rates of the step that is next. Returns `rate`."""
        rate = self.rate
        for group, part in zip(self._optimizer.param_groups, self._parts, strict=True):
            group["lr"] = rate * part
        return rate

    def step(self) -> None:
        """Go on to the next step."""
        waits = self._waits and self._warms_up
        self._ramp.step()
        if not waits and not isinstance(self._main, ReduceLROnPlateau):
            self._main.step()

    def see(self, metric: float) -> None:
        """Take the metric of an evaluation, in points."""
        if isinstance(self._main, ReduceLROnPlateau):
            self._main.step(metric)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the states of torch's classes."""
        return {"ramp": self._ramp.state_dict(), "main": self._main.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave. Raises DiagnosticError QS901 for the state of an
        earlier version, which had schedules of its own."""
        if not {"ramp", "main"} <= state.keys():
            raise QS901.error(
                "the training was interrupted in an earlier version of qatspec, whose checkpoints "
                "do not hold the state of torch's learning-rate schedules",
                help="move its stage's folder out of the work directory, and run it from its start",
            )
        for scheduler, kept in ((self._ramp, state["ramp"]), (self._main, state["main"])):
            scheduler.load_state_dict(copy.deepcopy(kept))
            # most of torch's classes compute a rate from the one before
            scheduler.optimizer.param_groups[0]["lr"] = scheduler.get_last_lr()[0]


def _carrier(rate: float) -> _Optimizer:
    """An optimizer that trains nothing, whose rate a class of torch can change."""
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(()))], lr=rate)


def _constant(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    return ConstantLR(optimizer, factor=1.0)


def _cosine(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    return CosineAnnealingLR(optimizer, extent.steps, float(params["min_lr"]))


def _step(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    edges = [epoch * extent.epoch for epoch in params["epochs"]]
    return MultiStepLR(optimizer, edges, float(params["factor"]))


def _exponential(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    # what ExponentialLR does that is stepped once an epoch
    return StepLR(optimizer, extent.epoch, float(params["factor"]))


def _poly(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    return PolynomialLR(optimizer, extent.steps, float(params["power"]))


def _one_cycle(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    start, end = float(params["start_factor"]), float(params["end_factor"])
    return OneCycleLR(
        optimizer,
        max_lr=optimizer.defaults["lr"],
        total_steps=extent.steps,
        # torch divides by zero where the rise ends with the first step
        pct_start=math.nextafter(float(params["rise"]), 0.0),
        cycle_momentum=False,
        div_factor=1 / start,
        final_div_factor=start / end if end else math.inf,
    )


def _linear(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    start, end = float(params["start_factor"]), float(params["end_factor"])
    return LinearLR(optimizer, start, end, params["epochs"] * extent.epoch)


def _low_start(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    return ConstantLR(optimizer, float(params["factor"]), params["epochs"] * extent.epoch)


def _cosine_restarts(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    first, growth = params["epochs"] * extent.epoch, params["growth"]
    return CosineAnnealingWarmRestarts(optimizer, first, growth, float(params["min_lr"]))


def _cyclic(optimizer: _Optimizer, params: _Params, extent: _Extent) -> LRScheduler:
    rate = optimizer.defaults["lr"]
    return CyclicLR(
        optimizer,
        rate * float(params["low_factor"]),
        rate,
        params["epochs"] * extent.epoch / 2,
        mode=params["mode"],
        gamma=float(params["gamma"]),
        cycle_momentum=False,
    )


def _plateau(optimizer: _Optimizer, params: _Params, extent: _Extent) -> ReduceLROnPlateau:
    return ReduceLROnPlateau(
        optimizer,
        mode="max",
        factor=float(params["factor"]),
        patience=params["patience"],
        threshold=float(params["min_delta"]),
        threshold_mode="abs",
        min_lr=float(params["min_factor"]) * optimizer.defaults["lr"],
        eps=0.0,
    )


class _Kind(NamedTuple):
    """A schedule of torch. waits: it begins behind the warm-up and ends with the training; others
    count from the first step, so that their epochs are those of the training."""

    make: Callable[[_Optimizer, _Params, _Extent], LRScheduler]
    waits: bool = False


_SCHEDULES: dict[str, _Kind] = {
    "constant": _Kind(_constant),
    "cosine": _Kind(_cosine, waits=True),
    "step": _Kind(_step),
    "exponential": _Kind(_exponential),
    "poly": _Kind(_poly, waits=True),
    "one_cycle": _Kind(_one_cycle),
    "linear": _Kind(_linear),
    "low_start": _Kind(_low_start),
    "cosine_restarts": _Kind(_cosine_restarts),
    "cyclic": _Kind(_cyclic),
    "plateau": _Kind(_plateau),
}
