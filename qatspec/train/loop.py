"""The training loop of the float and qat stages: by epochs or steps, resumable anywhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from qatspec.diag.codes import QS904
from qatspec.plan.checkpoints import checkpoint_files, checkpoint_path, is_intact
from qatspec.process import interrupt
from qatspec.quant.scales import scales_of
from qatspec.spec import Trainer
from qatspec.train.checkpoint import Checkpoint, rng_state, save, set_rng_state
from qatspec.train.distributed import ALONE, Processes
from qatspec.train.ema import WeightAverage
from qatspec.train.loader import Batch, Loader
from qatspec.train.loss import ForwardMode, Loss
from qatspec.train.optim import (
    build_optimizer,
    clip,
    freeze,
    freeze_statistics,
    load_optimizer,
)
from qatspec.train.process import fill_new_memory
from qatspec.train.scales import LearnedScales
from qatspec.train.schedule import Schedule
from qatspec.train.timing import Stopwatch
from qatspec.train.watch import Watch

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The inputs of a training: model, data, and the receiver of reports.

    model            a TaskModel, on `device`.
    to_train         puts the model into its training mode (model.train(), or set_stage "qat").
    validate         metrics of the model as it stands (called with averaged weights applied).
    metric           the key of its result that chooses the best checkpoint.
    folder           where checkpoints go, as `<stage>-checkpoint-<which>.pth.tar`.
    autocast         format of torch's autocast in forward; None: the model computes as it is.
    report           called with (kind, data): "progress", "metrics", "scales", "checkpoint", "log",
                     "profile".
    check_steps      steps between two readings of the losses; None: as the device asks for.
    profile          report where the time went, at the end.
    """

    stage: str
    model: nn.Module
    to_train: Callable[[], object]
    trainer: Trainer
    loader: Loader
    validate: Callable[[], Metrics]
    metric: str
    folder: Path
    device: torch.device
    seed: int
    march: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    group: Processes = ALONE
    autocast: Literal["bf16", "fp16"] | None = None
    report: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None
    check_steps: int | None = None
    profile: bool = False


def fit(training: Training, resume: Checkpoint | None = None) -> tuple[Metrics, list[Path]]:
    """Train to the end, from the start or from a checkpoint of the same training.

    Gives the best checkpoint's metrics and every checkpoint's path. Raises DiagnosticError QS904
    when a loss or a gradient is not finite, checkpoints up to then stay; Interrupted after a
    signal, with a checkpoint of the last step that was done.
    """
    with interrupt.deferred():
        try:
            return _Loop(training).run(resume)
        finally:
            training.loader.close()


#: Steps of a GPU between two readings of their values.
_CHECK_STEPS = 16


class _Done(NamedTuple):
    """A step whose values the program has not read yet. losses: the total, then each by `names`."""

    step: int
    epoch: int
    rate: float
    images: int
    names: tuple[str, ...]
    losses: Tensor
    norm: Tensor


class _Loop:
    def __init__(self, training: Training) -> None:
        self.training = training
        trainer = training.trainer
        self.epoch_steps = max(1, training.loader.epoch_steps // trainer.accumulate)
        self.steps = trainer.steps or (trainer.epochs or 0) * self.epoch_steps
        self.epochs = -(-self.steps // self.epoch_steps)
        assert trainer.optimizer is not None  # the schema requires it of a stage that trains
        freeze(training.model, trainer)
        # A loss scaler skips steps; with it, torch's own order of operations is kept.
        fused = training.device.type == "cpu" and trainer.amp != "fp16"
        self.optimizer = build_optimizer(training.model, trainer.optimizer, fused=fused)
        self.schedule = Schedule(
            self.optimizer, trainer.scheduler, steps=self.steps, epoch_steps=self.epoch_steps
        )
        self.scaler = torch.amp.GradScaler(training.device.type, enabled=trainer.amp == "fp16")
        self.scales = LearnedScales(training.model, trainer.optimizer.type)
        self.average = None if trainer.ema is None else WeightAverage(training.model, trainer.ema)
        self.watch = Watch(trainer)
        self.step = 0
        self.metrics: Metrics = {}
        self.best: float | None = None
        self.best_metrics: Metrics = {}
        self.unfinished = False
        self.stopping = False
        self.waiting: list[_Done] = []
        cuda = training.device.type == "cuda"
        self.check_steps = training.check_steps or (_CHECK_STEPS if cuda else 1)
        self.clock = Stopwatch(training.device, training.profile)

    def run(self, resume: Checkpoint | None) -> tuple[Metrics, list[Path]]:
        torch.manual_seed(self.training.seed)
        if resume is not None:
            self._restore(resume)
        if (self.steps == 0 and resume is None) or self.unfinished:
            self._finish(-(-self.step // self.epoch_steps))
        forward = self.training.group.wrap(Loss(self.training.model, self._mode()))
        fill_new_memory(True)  # a first step that reads what was not written gives NaN
        while self.step < self.steps and not self.watch.ended:
            epoch, start = divmod(self.step, self.epoch_steps)
            self._enter(epoch)
            try:
                self._epoch(forward, epoch, start)
            except RuntimeError:
                self._check()  # what was not finite before is the cause
                raise
            self._finish(epoch + 1)
        if self.training.profile:
            self.training.report("profile", {"seconds": self.clock.seconds, "steps": self.step})
        return self.best_metrics, self.training.group.from_main(self._written)

    def _mode(self) -> ForwardMode:
        trainer, several = self.training.trainer, self.training.group.world > 1
        return ForwardMode(
            autocast=self.training.autocast,
            compiled=trainer.compile,
            at=trainer.at,
            synchronized=several and trainer.batch_norm == "synchronized",
        )

    def _epoch(self, forward: nn.Module, epoch: int, start: int) -> None:
        """Train from step `start` of an epoch to its end, or to that of the training."""
        trainer = self.training.trainer
        parts = min(trainer.accumulate, self.training.loader.epoch_steps)
        loaded = iter(self.clock.waiting_for(self._on_device(epoch, start * parts)))
        while batches := list(islice(loaded, parts)):
            self._train(forward, batches, epoch)
            fill_new_memory(False)
            if self.step == self.steps or self.step % self.epoch_steps == 0:
                break
            if self.training.group.world == 1:
                self.stopping = interrupt.requested()
            if self.stopping or self.step % trainer.checkpoint_steps == 0:
                self._check()
                self._save("last")
                self._stop()
        self._check()

    def _on_device(self, epoch: int, start: int) -> Iterator[Batch]:
        for batch in self.training.loader.shuffled(epoch, start):
            yield batch.to(self.training.device)

    def _enter(self, epoch: int) -> None:
        self.training.to_train()
        freeze_statistics(self.training.model, self.training.trainer, epoch)

    def _train(self, forward: nn.Module, batches: Sequence[Batch], epoch: int) -> None:
        """One optimizer step, with the mean gradient of the batches."""
        clock = self.clock
        rate = self.schedule.apply()
        self.optimizer.zero_grad(set_to_none=True)
        seen: list[Tensor] = []
        names: tuple[str, ...] = ()
        for batch in batches[:-1]:
            with self.training.group.apart(forward):
                names = self._backward(forward, batch, len(batches), seen)
        names = self._backward(forward, batches[-1], len(batches), seen)
        with clock.part("optimizer"):
            self.scaler.unscale_(self.optimizer)
            norm = clip(self.training.model, self.training.trainer)
            self.scales.before_step()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            self.scales.after_step()
            self.step += 1
            self.schedule.step()
            if self.average:
                self.average.update()
        images = sum(map(len, batches)) * self.training.group.world
        losses = seen[0] if len(seen) == 1 else torch.stack(seen).sum(dim=0)
        self.waiting.append(_Done(self.step, epoch, rate, images, names, losses, norm))
        if len(self.waiting) >= self.check_steps:
            self._check()

    def _backward(
        self, forward: nn.Module, batch: Batch, parts: int, seen: list[Tensor]
    ) -> tuple[str, ...]:
        """Add the gradient of one of so many parts of a step, and its losses to `seen`."""
        with self.clock.part("forward"):
            losses = forward(batch.inputs, batch.targets)
            values = list(losses.values())
            if parts > 1:
                values = [value / parts for value in values]
            total = torch.stack(values).sum()
        with self.clock.part("backward"):
            self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        seen.append(torch.stack([total.detach(), *(value.detach() for value in values)]))
        return ("loss", *losses)

    def _check(self) -> None:
        """Report the steps since the last check, and raise DiagnosticError QS904 at the first one
        that was not finite. Reading their values waits for the device, so that a GPU does it every
        few steps; nothing is saved before it.

        Losses are averaged over the processes. In the same message, each process tells the others
        of a signal, at which all stop after the same step, and of what it has to report."""
        done, self.waiting = self.waiting, []
        group = self.training.group
        if not done:
            return
        with self.clock.part("sync"):
            signs = [float(interrupt.requested()), float(bool(group.remarks))]
            sent = [*(one.losses for one in done), done[0].losses.new_tensor(signs)]
            *values, stopping, remarks = group.mean(torch.cat(sent)).tolist()
            norms = torch.stack([one.norm for one in done]).tolist()
            self.stopping = stopping > 0
        if self.stopping:
            interrupt.request()
        if remarks > 0:
            group.collect(self.training.report)
        for one, norm in zip(done, norms, strict=True):
            losses = dict(zip(one.names, values, strict=False))
            values = values[len(one.names) :]
            self._demand_finite(losses, one)
            norm = self._applied(norm)
            self._demand_finite({"gradient norm": norm}, one)
            self._tell(one, losses, norm)

    def _applied(self, norm: float) -> float:
        """The gradient norm of a step: 0 where the scaler left the step out, because the gradient
        of the scaled loss exceeded float16. It lowers its scale then, down to where the loss itself
        is too large."""
        left_out = self.scaler.is_enabled() and not math.isfinite(norm)
        return 0.0 if left_out and self.scaler.get_scale() > 1.0 else norm

    def _tell(self, one: _Done, losses: Mapping[str, float], norm: float) -> None:
        self.training.report(
            "progress",
            {
                "done": one.step, "total": self.steps, "unit": "step",
                "epoch": one.epoch + 1, "epochs": self.epochs, "images": one.images,
                "loss": losses["loss"], "losses": losses, "lr": one.rate, "grad_norm": norm,
            },
        )  # fmt: skip

    def _demand_finite(self, values: Mapping[str, float], one: _Done) -> None:
        bad = [name for name, value in values.items() if not abs(value) < float("inf")]
        if not bad:
            return
        names = ", ".join(f"`{n}` = {values[n]}" for n in bad if n != "loss") or "`loss`"
        raise QS904.error(
            f"not finite in stage {self.training.stage}, epoch {one.epoch + 1}, "
            f"step {one.step}: {names}",
            help="lower the learning rate, add `grad_clip` or warm-up steps, or look for "
            "broken boxes in the data; the last checkpoint before this step is kept",
            at=f"/stages/{self.training.stage}/trainer",
        )

    def _finish(self, epoch: int) -> None:
        """End of an epoch, or of the training: validate where due, and write the checkpoints."""
        names = ["last"]
        if epoch % self.training.trainer.validate_epochs == 0 or self.step == self.steps:
            try:
                self.metrics = self._validate()
            except interrupt.Interrupted:
                self._save("last", unfinished=True)
                self._stop()
                raise
            self.training.report("metrics", {"epoch": epoch, "step": self.step, **self.metrics})
            self._watch(self.metrics[self.training.metric])
            ends_epoch = self.step % self.epoch_steps == 0
            names.append(f"epoch-{epoch:04d}" if ends_epoch else f"step-{self.step}")
            if self.best is None or self.metrics[self.training.metric] > self.best:
                self.best, self.best_metrics = self.metrics[self.training.metric], self.metrics
                names.append("best")
        if scales := scales_of(self.training.model):
            self.training.report("scales", {"step": self.step, "scales": scales})
        self._save(*reversed(names))
        if self.step < self.steps:
            self._stop()

    def _watch(self, metric: float) -> None:
        """Let the course of the training follow from an evaluation, where the trainer says so."""
        before = self.schedule.rate
        self.schedule.see(metric)
        self.watch.see(metric)
        if not self.training.group.is_main:
            return
        if (rate := self.schedule.rate) != before:
            message = f"no improvement: the learning rate is now {rate:g}, {before:g} before"
            self.training.report("log", {"message": message})
        if self.watch.ended and self.step < self.steps:
            message = f"no improvement: the training ends early, after step {self.step}"
            self.training.report("log", {"message": message})

    def _validate(self) -> Metrics:
        """Metrics of the judged weights. Training goes on with the generators as they were, so
        that no setting of the validation reaches its tensors."""
        state = rng_state(self.training.seed)
        try:
            with self.average.applied() if self.average else nullcontext(), self.clock.part("eval"):
                return self.training.validate()
        finally:
            set_rng_state(state)

    def _stop(self) -> None:
        """Raise Interrupted if a signal has arrived; the last step is saved."""
        last = checkpoint_path(self.training.folder, self.training.stage, "last")
        interrupt.check(last, f"step {self.step} of {self.steps}")

    def _save(self, *names: str, unfinished: bool = False) -> None:
        """unfinished: the validation that follows this step is still to be done."""
        if not self.training.group.is_main:
            return
        self.training.report("checkpoint", {"step": self.step, "names": list(names)})
        epoch, batch = divmod(self.step, self.epoch_steps)
        sampler = {"epoch": epoch, "batch": batch}
        checkpoint = Checkpoint(
            stage=self.training.stage,
            epoch=epoch,
            step=self.step,
            state_dict=self.training.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={**self.schedule.state_dict(), **self.watch.state_dict()},
            scaler=self.scaler.state_dict() or None,
            ema=self.average.state_dict() if self.average else None,
            rng=rng_state(self.training.seed),
            sampler={**sampler, "unfinished": 1} if unfinished else sampler,
            metrics=self.metrics,
            best=self.best,
            best_metrics=self.best_metrics,
            march=self.training.march,
            digests=self.training.digests,
        )
        save(
            checkpoint,
            *(checkpoint_path(self.training.folder, self.training.stage, name) for name in names),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        self.training.model.load_state_dict(dict(checkpoint.state_dict))
        load_optimizer(self.optimizer, checkpoint.optimizer or {})
        self.schedule.load_state_dict(checkpoint.scheduler or {})
        self.watch.load_state_dict(checkpoint.scheduler or {})
        if checkpoint.scaler:
            self.scaler.load_state_dict(dict(checkpoint.scaler))
        if self.average and checkpoint.ema:
            self.average.load_state_dict(checkpoint.ema)
        set_rng_state(checkpoint.rng)
        self.step = checkpoint.step
        self.unfinished = "unfinished" in checkpoint.sampler
        self.metrics, self.best = checkpoint.metrics, checkpoint.best
        self.best_metrics = checkpoint.best_metrics

    def _written(self) -> list[Path]:
        """Every intact checkpoint: damaged ones of an interrupted run are no results."""
        return [
            p for p in checkpoint_files(self.training.folder, self.training.stage) if is_intact(p)
        ]
