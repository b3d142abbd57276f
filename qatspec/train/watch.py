"""What follows from a training's evaluations: its early end, and a plateau's learning rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qatspec.spec import Trainer


@dataclass(slots=True)
class _Patience:
    """Counts evaluations in a row whose metric does not exceed the best one so far by more than
    `least` points."""

    least: float
    best: float | None = None
    stale: int = 0

    def see(self, metric: float) -> int:
        """Return the count after an evaluation with this metric."""
        improved = self.best is None or metric > self.best + self.least
        if improved:
            self.best = metric
        self.stale = 0 if improved else self.stale + 1
        return self.stale


class Watch:
    """The evaluations of a training, as its trainer wants them watched.

    ended   the training ends early: `early_stop.patience` evaluations in a row did not improve.
    factor  of the learning rate, by a schedule of type plateau: torch's ReduceLROnPlateau with
            mode "max", threshold_mode "abs" and `min_delta` as its threshold.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._stop, schedule = trainer.early_stop, trainer.scheduler
        self._plateau = schedule.params if schedule.type == "plateau" else None
        self._until_end = _Patience(self._stop.min_delta if self._stop else 0.0)
        self._until_drop = _Patience(self._plateau["min_delta"] if self._plateau else 0.0)
        self.factor = 1.0

    @property
    def ended(self) -> bool:
        return self._stop is not None and self._until_end.stale >= self._stop.patience

    def see(self, metric: float) -> None:
        """Take the metric of an evaluation, in points."""
        self._until_end.see(metric)
        if self._plateau and self._until_drop.see(metric) > self._plateau["patience"]:
            lowered = self.factor * self._plateau["factor"]
            self.factor = max(lowered, self._plateau["min_factor"])
            self._until_drop.stale = 0

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; nothing where nothing is watched."""
        state: dict[str, Any] = {}
        if self._stop:
            state["until_end"] = [self._until_end.best, self._until_end.stale]
        if self._plateau:
            state["until_drop"] = [self._until_drop.best, self._until_drop.stale]
            state["factor"] = self.factor
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave; keys of other settings are ignored."""
        for name, patience in (("until_end", self._until_end), ("until_drop", self._until_drop)):
            patience.best, patience.stale = state.get(name, (None, 0))
        self.factor = state.get("factor", 1.0)
