"""The tutorial's advice on quantized training, as far as the run shows whether it is followed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from qatspec.plan import results
from qatspec.registry import registry
from qatspec.spec import Spec
from qatspec.spec.advice import Advice

#: Points that the best qat model gains at most over its first epoch, by experience.
_MOST_GAINED = 3.0
#: Points below float from which another float checkpoint is worth a try.
_WORTH_A_TRY = 1.0
#: Share of a GPU's memory that a training should use.
_USED = 0.5


class Adviser:
    """Watches the stage qat.

    metric         that chooses the best checkpoint, and its value in float; None where float has
                   not been evaluated.
    device         that trains.
    """

    def __init__(
        self, spec: Spec, metric: str, of_float: float | None, device: torch.device
    ) -> None:
        self.spec = spec
        self._metric = metric
        self._of_float = of_float
        self._device = device
        self._best: float | None = None
        self._memory: int | None = None

    @staticmethod
    def of(spec: Spec, workdir: Path, device: torch.device) -> Adviser:
        """Make one that compares with the result of float in a work directory."""
        metric = registry().dataset(spec.data["val"].dataset.type).metric
        result = results.find(workdir / "float", "float")
        metrics = result.record["metrics"] if result is not None and result.record else {}
        return Adviser(spec, metric, metrics.get(metric), device)

    def hear(self, kind: str, data: Mapping[str, Any]) -> Iterator[Advice]:
        """Yield the advice that an event of the stage gives rise to."""
        if kind == "resources":
            self._memory = data["device_memory_bytes"]
        if kind != "metrics" or self._metric not in data:
            return
        value = float(data[self._metric])
        self._best = value if self._best is None else max(self._best, value)
        if data.get("epoch") == 1:
            yield from self._first_epoch(value)

    def finished(self) -> Iterator[Advice]:
        """Yield the advice at the end of the stage."""
        if self._of_float is None or self._best is None:
            return
        quantized = [name for name in ("calibration", "qat") if name in self.spec.stages]
        stage = self.spec.stages[quantized[0]]
        below = self._of_float - self._best
        if below > _WORTH_A_TRY and stage.solver.pre_step_checkpoint == "best":
            yield Advice(
                "/stages/qat/init_from",
                "try several checkpoints of float: `init_from: [best, last]` in stage qat (it ends "
                f"{below:.2f} below float)",
                "the best float model may be close to overfitting, and a worse one may become the "
                "better quantized one",
            )

    def _first_epoch(self, value: float) -> Iterator[Advice]:
        if self._of_float is not None and self._of_float - value > _MOST_GAINED:
            yield Advice(
                "/stages/qat",
                f"look at the calibration and at `qatspec compare` before training on: the first "
                f"epoch has {value:.2f} {self._metric}, float {self._of_float:.2f}",
                f"the best qat model is seldom more than {_MOST_GAINED:g} points above its first "
                "epoch",
            )
        if self._memory is None or self._device.type != "cuda":
            return
        total = torch.cuda.get_device_properties(self._device).total_memory
        if self._memory < _USED * total:
            yield Advice(
                "/stages/qat/batch_size_per_gpu",
                f"raise the batch size: {self._memory / total:.0%} of the GPU's memory is used",
                "larger batches give steadier statistics and scales",
            )
