"""The early end of a training whose evaluations no longer improve."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.spec import Trainer


class Watch:
    """Counts evaluations in a row whose metric does not exceed the best one so far by more than
    `early_stop.min_delta` points.

    ended: as many as `early_stop.patience` did not, and the training ends.
    """

    def __init__(self, trainer: Trainer) -> None:
        self._stop = trainer.early_stop
        self._best: float | None = None
        self._stale = 0

    @property
    def ended(self) -> bool:
        return self._stop is not None and self._stale >= self._stop.patience

    def see(self, metric: float) -> None:
        """Take the metric of an evaluation, in points."""
        if self._stop is None:
            return
        improved = self._best is None or metric > self._best + self._stop.min_delta
        self._best = metric if improved else self._best
        self._stale = 0 if improved else self._stale + 1

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps; nothing where nothing is watched."""
        return {} if self._stop is None else {"until_end": [self._best, self._stale]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` gave."""
        self._best, self._stale = state.get("until_end", (None, 0))
