"""The data of a spec, tried before training: opened, one batch of each role, one validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from qatspec.diag import Diagnostic, DiagnosticError, Note, PluginFault
from qatspec.diag.codes import QS942, QS943
from qatspec.spec import InputSpec, TensorSpec, Trainer
from qatspec.stages.context import Context
from qatspec.stages.exhausted import too_large
from qatspec.stages.training import lay_out
from qatspec.train.evaluate import rehearse
from qatspec.train.loader import Batch, Loader
from qatspec.train.loss import ForwardMode, Loss, demand_compiler
from qatspec.train.optim import freeze

#: stage -> the role that it reads, besides val
_ROLES = {"float": "train", "calibration": "calibration", "qat": "qat"}


@dataclass
class TriedData:
    """context: of any stage; stages: those that will read the data."""

    context: Context
    stages: Sequence[str]

    def check(self) -> None:
        """Open every role and compare an example of each with the inputs that the spec states.

        Raises DiagnosticError: QS909 for an empty set, QS918 for classes that differ, QS942 for
        pictures of another shape and numbers outside of a range, and what opening and reading
        raise."""
        for role in self._roles():
            example = _first(replace(self._loader(role), batch_size=1))
            fixed = role == "val" and "convert" in self.stages
            inputs = self.context.inputs.items()
            for (name, wanted), given in zip(inputs, example.inputs, strict=True):
                if isinstance(wanted, TensorSpec):
                    self._demand_range(role, name, wanted, given)
                    continue
                picture = tuple(given.shape[1:])
                if picture[0] != wanted.channels or (fixed and picture[1:] != wanted.size):
                    raise DiagnosticError(self._other_shape(role, name, wanted, picture))

    def step(self, stage: str, model: nn.Module) -> None:
        """The loss of the stage's first batch; `model` is in training mode.

        Raises DiagnosticError QS943 where a batch norm gets one number a channel, QS962 where a
        pattern of the trainer matches nothing, QS963 where nothing can be compiled; PluginFault."""
        trainer = self.context.spec.stages[stage].trainer or Trainer()
        freeze(model, trainer)
        lay_out(model, trainer)
        if trainer.compile:
            demand_compiler(self.context.device, trainer.at)
        autocast = trainer.amp if stage == "float" else None
        batch = _first(self._loader(_ROLES[stage], stage)).to(self.context.device)
        try:
            with torch.no_grad():
                Loss(model, ForwardMode(autocast=autocast))(batch.inputs, batch.targets)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise too_large(self.context.spec, stage, len(batch), error) from error
        except (ValueError, PluginFault) as error:
            if "more than 1 value per channel" not in str(error.__cause__ or error):
                raise
            raise DiagnosticError(self._one_value(stage, len(batch))) from error

    def epoch_steps(self, stage: str) -> int:
        """Optimizer steps of an epoch of a training stage."""
        trainer = self.context.spec.stages[stage].trainer
        parts = trainer.accumulate if trainer else 1
        return max(1, self._loader(_ROLES[stage], stage).epoch_steps // parts)

    def observe(self, model: nn.Module) -> None:
        """One batch of data.calibration through `model`."""
        batch = _first(self._loader("calibration", "calibration"))
        with torch.no_grad():
            model(*batch.to(self.context.device).inputs)

    def judge(self, model: nn.Module) -> None:
        """Validate on two pictures of data.val. Raises PluginFault and DiagnosticError."""
        rehearse(model, self._loader("val"), self.context.device)

    def _roles(self) -> list[str]:
        roles = [_ROLES[stage] for stage in self.stages if stage in _ROLES]
        return [*dict.fromkeys(roles), "val"]

    def _loader(self, role: str, stage: str | None = None) -> Loader:
        size = self.context.spec.stages[stage].batch_size if stage else None
        return replace(self.context.loader(role, size), workers=0)

    def _demand_range(self, role: str, name: str, wanted: TensorSpec, given: Tensor) -> None:
        """Raise DiagnosticError QS942 where numbers lie outside of the stated range."""
        if wanted.range is None:
            return
        least, most = given.min().item(), given.max().item()
        if wanted.range[0] <= least and most <= wanted.range[1]:
            return
        stated = ", ".join(f"{number:g}" for number in wanted.range)
        raise QS942.error(
            f"data.{role} gives `{name}` from {least:g} to {most:g}, its `range` is [{stated}]",
            help="state the range that the data has, or correct the data",
            at=self.context.spec.data[role].dataset.at,
            notes=(Note("the range", at=f"{wanted.at}/range"),),
        )

    def _other_shape(
        self, role: str, name: str, wanted: InputSpec, picture: tuple[int, ...]
    ) -> Diagnostic:
        what, where = (f"`{name}`", f"model.inputs.{name}") if name else ("pictures", "model.input")
        return QS942.diagnostic(
            f"data.{role} gives {what} of shape {picture} (channels, height, width), "
            f"`{where}` says {wanted.shape}",
            help="give both the same `size` and `channels`",
            at=self.context.spec.data[role].dataset.at,
        )

    def _one_value(self, stage: str, images: int) -> Diagnostic:
        spec = self.context.spec
        of_stage = spec.stages[stage].batch_size is not None
        role = spec.data[_ROLES[stage]]
        key = "batch_size_per_gpu" if of_stage else "batch_size"
        return QS943.diagnostic(
            f"stage {stage} trains on batches of {images} picture, and a batch norm of the "
            "model gets one number a channel, which has no variance",
            help=f"set `{key}: 2` or more, with as many pictures in the set",
            at=f"/stages/{stage}/batch_size_per_gpu" if of_stage else f"{role.at}/batch_size",
        )


def _first(loader: Loader) -> Batch:
    return next(iter(loader.shuffled(0)))
