"""The training loop of the float and qat stages: by epochs or steps, resumable anywhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from qatspec.diag.codes import QS904
from qatspec.plan.checkpoints import checkpoint_files, checkpoint_path, is_intact
from qatspec.process import interrupt
from qatspec.quant.fold import freeze_batch_norm
from qatspec.quant.learned import clamp_scales
from qatspec.registry import registry
from qatspec.spec import Trainer
from qatspec.train.batch_norm import SynchronizedBatchNorm
from qatspec.train.checkpoint import Checkpoint, rng_state, save, set_rng_state
from qatspec.train.distributed import ALONE, Processes
from qatspec.train.ema import WeightAverage
from qatspec.train.loader import Batch, Loader
from qatspec.train.optim import build_optimizer, build_schedule
from qatspec.train.protocol import losses_of
from qatspec.types import TaskModel

Metrics = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """The inputs of a training: model, data, and the receiver of reports.

    model            a TaskModel, on `device`.
    to_train         puts the model into its training mode (model.train(), or set_stage "qat").
    validate         metrics of the model as it stands (called with averaged weights applied).
    metric           the key of its result that chooses the best checkpoint.
    folder           where checkpoints go, as `<stage>-checkpoint-<which>.pth.tar`.
    report           called with (kind, data): "progress", "metrics".
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
    report: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None


def fit(training: Training, resume: Checkpoint | None = None) -> tuple[Metrics, list[Path]]:
    """Train to the end, from the start or from a checkpoint of the same training.

    Gives the best checkpoint's metrics and every checkpoint's path. Raises DiagnosticError QS904
    when a loss or a gradient is not finite, checkpoints up to then stay; Interrupted after a
    signal, with a checkpoint of the last step that was done.
    """
    with interrupt.deferred():
        return _Loop(training).run(resume)


class Loss(nn.Module):
    """Model and loss as one forward, which is what DDP wraps.

    synchronized: batch norms take the statistics of all processes' pictures.
    """

    def __init__(self, model: nn.Module, synchronized: bool) -> None:
        super().__init__()
        self.model = model
        self._around = SynchronizedBatchNorm() if synchronized else nullcontext()

    def forward(
        self, inputs: Sequence[Tensor], targets: list[dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        with self._around:
            with registry().attribute_errors_of(self.model, "forward"):
                outputs = self.model(*inputs)
            with registry().attribute_errors_of(self.model, "loss"):
                losses = cast(TaskModel, self.model).loss(outputs, targets)
        return losses_of(self.model, losses)


class _Loop:
    def __init__(self, training: Training) -> None:
        self.training = training
        trainer, self.epoch_steps = training.trainer, training.loader.epoch_steps
        self.steps = trainer.steps or (trainer.epochs or 0) * self.epoch_steps
        self.epochs = -(-self.steps // self.epoch_steps)
        assert trainer.optimizer is not None  # the schema requires it of a stage that trains
        self.optimizer = build_optimizer(training.model, trainer.optimizer)
        self.schedule = build_schedule(
            self.optimizer, trainer.scheduler, steps=self.steps, epoch_steps=self.epoch_steps
        )
        self.average = None if trainer.ema is None else WeightAverage(training.model, trainer.ema)
        self.step = 0
        self.metrics: Metrics = {}
        self.best: float | None = None
        self.best_metrics: Metrics = {}
        self.unfinished = False

    def run(self, resume: Checkpoint | None) -> tuple[Metrics, list[Path]]:
        torch.manual_seed(self.training.seed)
        if resume is not None:
            self._restore(resume)
        if (self.steps == 0 and resume is None) or self.unfinished:
            self._finish(-(-self.step // self.epoch_steps))
        synchronized = (
            self.training.trainer.batch_norm == "synchronized" and self.training.group.world > 1
        )
        forward = self.training.group.wrap(Loss(self.training.model, synchronized))
        while self.step < self.steps:
            epoch, start = divmod(self.step, self.epoch_steps)
            self._enter(epoch)
            for batch in self.training.loader.shuffled(epoch, start):
                self._train(forward, batch.to(self.training.device), epoch)
                if self.step == self.steps:
                    break
                due = (
                    interrupt.requested() or self.step % self.training.trainer.checkpoint_steps == 0
                )
                if due and self.step % self.epoch_steps:  # _finish saves the end of an epoch
                    self._save("last")
                    self._stop()
            self._finish(epoch + 1)
        return self.best_metrics, self._written()

    def _enter(self, epoch: int) -> None:
        self.training.to_train()
        start = self.training.trainer.freeze_from_epoch
        frozen = self.training.trainer.batch_norm == "frozen" or (
            start is not None and epoch >= start
        )
        freeze_batch_norm(self.training.model, frozen)

    def _train(self, forward: nn.Module, batch: Batch, epoch: int) -> None:
        rate = self.schedule.apply(self.optimizer, self.step)
        self.optimizer.zero_grad(set_to_none=True)
        losses = forward(batch.inputs, batch.targets)
        total = torch.stack(list(losses.values())).sum()
        averaged = self.training.group.mean(
            torch.stack([total.detach(), *(v.detach() for v in losses.values())])
        )
        values = dict(zip(("loss", *losses), averaged.tolist(), strict=True))
        self._demand_finite(values, epoch)
        total.backward()  # type: ignore[no-untyped-call]
        limit = self.training.trainer.grad_clip
        norm = nn.utils.clip_grad_norm_(self.training.model.parameters(), limit or float("inf"))
        self._demand_finite({"gradient norm": float(norm)}, epoch)
        self.optimizer.step()
        clamp_scales(self.training.model)
        self.step += 1
        if self.average:
            self.average.update()
        self.training.report(
            "progress",
            {
                "done": self.step, "total": self.steps, "unit": "step",
                "epoch": epoch + 1, "epochs": self.epochs,
                "images": len(batch) * self.training.group.world,
                "loss": values["loss"], "losses": values, "lr": rate,
            },
        )  # fmt: skip

    def _demand_finite(self, values: Mapping[str, float], epoch: int) -> None:
        bad = [name for name, value in values.items() if not abs(value) < float("inf")]
        if not bad:
            return
        names = ", ".join(f"`{n}` = {values[n]}" for n in bad if n != "loss") or "`loss`"
        raise QS904.error(
            f"not finite in stage {self.training.stage}, epoch {epoch + 1}, "
            f"step {self.step + 1}: {names}",
            help="lower the learning rate, add `grad_clip` or warm-up steps, or look for "
            "broken boxes in the data; the last checkpoint before this step is kept",
            at=f"/stages/{self.training.stage}/trainer",
        )

    def _finish(self, epoch: int) -> None:
        """End of an epoch, or of the training: validate where due, and write the checkpoints."""
        names = ["last"]
        if epoch % self.training.trainer.validate_epochs == 0 or self.step == self.steps:
            try:
                metrics = self._validate() if self.training.group.is_main else None
            except interrupt.Interrupted:
                self._save("last", unfinished=True)
                self._stop()
                raise
            self.metrics = self.training.group.share(metrics)
            self.training.report("metrics", {"epoch": epoch, "step": self.step, **self.metrics})
            ends_epoch = self.step % self.epoch_steps == 0
            names.append(f"epoch-{epoch:04d}" if ends_epoch else f"step-{self.step}")
            if self.best is None or self.metrics[self.training.metric] > self.best:
                self.best, self.best_metrics = self.metrics[self.training.metric], self.metrics
                names.append("best")
        self._save(*reversed(names))
        if self.step < self.steps:
            self._stop()

    def _validate(self) -> Metrics:
        """Metrics of the judged weights. Training goes on with the generators as they were, so
        that no setting of the validation reaches its tensors."""
        state = rng_state(self.training.seed)
        try:
            with self.average.applied() if self.average else nullcontext():
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
        epoch, batch = divmod(self.step, self.epoch_steps)
        sampler = {"epoch": epoch, "batch": batch}
        checkpoint = Checkpoint(
            stage=self.training.stage,
            epoch=epoch,
            step=self.step,
            state_dict=self.training.model.state_dict(),
            optimizer=self.optimizer.state_dict(),
            scheduler={"step": self.step},
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
        self.optimizer.load_state_dict(dict(checkpoint.optimizer or {}))
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
