"""The choice of a batch size: the largest power of two whose training step fits into memory.

Two steps on small batches give the memory of a step as a line over the batch size. It counts
tensors (`LiveTensors`), so that one machine chooses the same size each time; what kernels take for
themselves is what the rest of the device's memory is left for. The size is then tried.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qatspec.diag.words import file_size
from qatspec.prepare import set_stage
from qatspec.prepare.products import reduce_products
from qatspec.spec import TRIED, Trainer
from qatspec.stages.context import Context
from qatspec.stages.foresight import stand_ins
from qatspec.stages.training import lay_out
from qatspec.train.loader import Batch
from qatspec.train.loss import AMP_DTYPES, ForwardMode, Loss
from qatspec.train.memory import LiveTensors, device_memory
from qatspec.train.optim import freeze, freeze_statistics, tensors_per_parameter

#: The share of a device's memory that the tensors of a step may take.
SHARE = {"cuda": 0.7, "cpu": 0.5}
#: The largest size: beyond it a GPU gains little speed and a training needs other learning rates; a
#: CPU computes the examples of a large batch no faster than those of a small one.
LARGEST = {"cuda": 256, "cpu": 16}
#: Optimizer steps that an epoch has at least.
STEPS = 16


@dataclass(frozen=True, slots=True)
class ChosenSize:
    """A batch size, and why it is no larger."""

    size: int
    why: str


@dataclass(frozen=True, slots=True)
class StepMemory:
    """Bytes of a training step: of the model and its optimizer, and of each example."""

    stage: str
    fixed: float
    each: float

    def of(self, size: int) -> int:
        """Bytes of a step with so many examples."""
        return int(self.fixed + self.each * size)


def choose_batch_size(
    context: Context, role: str, stages: Sequence[str], processes: int
) -> ChosenSize:
    """Choose the batch size with which `stages` train on data.<role>.

    processes  of the run. Those on a CPU share its memory, each on a GPU has one of its own.

    Raises DiagnosticError and PluginFault as these stages do on a batch; QS946 is never raised, as
    a size that does not fit is halved.
    """
    device = context.device
    epoch = len(context.dataset(role)) // (processes * STEPS)
    limits = {
        f"an epoch has {STEPS} steps at least": max(1, epoch),
        f"it is the largest on a {'GPU' if device.type == 'cuda' else 'CPU'}": LARGEST[device.type],
    }
    memory = device_memory(device) * SHARE[device.type]
    if device.type == "cpu":
        memory /= processes
    for stage in stages:
        with _trial(context, role, stage) as trial:
            line = trial.measure()
            fits = int(max(1, (memory - line.fixed) // max(1.0, line.each)))
            size = _power(min(fits, *limits.values()))
            while size > 1 and not trial.fits(size):
                size //= 2
                fits = size
        used = f"{file_size(line.of(size))} of tensors of {file_size(device_memory(device))}"
        limits[f"a step of {stage} takes {used}"] = fits
    why = min(limits, key=lambda reason: limits[reason])
    return ChosenSize(_power(limits[why]), why)


def _power(size: int) -> int:
    """The largest power of two up to `size`."""
    return 1 << (int(size).bit_length() - 1)


@contextmanager
def _trial(context: Context, role: str, stage: str) -> Iterator[_Trial]:
    """The model of a stage on the device, and nothing of it behind the block."""
    at = replace(context, stage=stage, report=lambda kind, data: None)
    trial = _Trial(at, role)
    try:
        yield trial
    finally:
        del trial
        gc.collect()
        if context.device.type == "cuda":
            torch.cuda.empty_cache()


class _Trial:
    """Training steps of a stage, without an optimizer's: its tensors are counted."""

    def __init__(self, context: Context, role: str) -> None:
        self._context, self._role = context, role
        stage = context.spec.stages.get(context.stage)
        self._trainer = (stage.trainer if stage else None) or Trainer()
        self._model = self._quantized() if context.stage == "qat" else self._float()
        freeze(self._model, self._trainer)
        freeze_statistics(self._model, self._trainer, 0)
        lay_out(self._model, self._trainer)
        autocast = self._trainer.amp if context.stage == "float" else None
        self._loss = Loss(self._model, ForwardMode(autocast=autocast))

    def measure(self) -> StepMemory:
        """The memory of a step, from two batches."""
        first, second = self._batch(TRIED), self._batch(2 * TRIED)
        few, many = self._step(first), self._step(second)
        each = (many - few) / max(1, len(second) - len(first))
        return StepMemory(self._context.stage, self._kept() + few - each * len(first), each)

    def fits(self, size: int) -> bool:
        """Return whether a step of so many examples finds its memory."""
        try:
            self._step(self._batch(size))
        except (torch.OutOfMemoryError, MemoryError):
            self._forget()
            return False
        return True

    def _float(self) -> nn.Module:
        return self._context.build_model().to(self._context.device).train()

    def _quantized(self) -> nn.Module:
        """The prepared model with scales of one batch, as calibration leaves it."""
        prepared = self._context.prepare("qat")
        model = prepared.model.to(self._context.device)
        set_stage(prepared, "calibration")
        with torch.no_grad(), stand_ins(model):
            model(*self._batch(TRIED).inputs)
        amp = self._trainer.amp
        reduce_products(prepared, AMP_DTYPES[amp] if amp else None)
        set_stage(prepared, "qat")
        return model

    def _batch(self, size: int) -> Batch:
        loader = replace(self._context.loader(self._role, size), workers=0)
        return next(iter(loader.shuffled(0))).to(self._context.device)

    def _step(self, batch: Batch) -> int:
        """The most bytes that tensors of forward and backward take at once, with the batch."""
        self._forget()
        live = LiveTensors()
        with live:
            losses = self._loss(batch.inputs, batch.targets)
            torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
        self._forget()
        return live.most + _bytes(batch.inputs)

    def _forget(self) -> None:
        self._model.zero_grad(set_to_none=True)

    def _kept(self) -> int:
        """Bytes between steps: the model's, its optimizer's, and those of its moving average."""
        trainer = self._trainer
        model = _bytes(self._model.state_dict().values())
        trained = _bytes(p for p in self._model.parameters() if p.requires_grad)
        if trainer.optimizer is not None:
            trained *= tensors_per_parameter(trainer.optimizer)
        return trained + model * (1 if trainer.ema is None else 2)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
