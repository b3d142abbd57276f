"""The data of a spec, tried before training: opened, one batch of each role, one validation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import nn

from qatspec.diag import Diagnostic, DiagnosticError, PluginFault
from qatspec.diag.codes import QS942, QS943
from qatspec.stages.context import Context
from qatspec.train.evaluate import rehearse
from qatspec.train.loader import Batch, Loader
from qatspec.train.loop import Loss

#: stage -> the role that it reads, besides val
_ROLES = {"float": "train", "calibration": "calibration", "qat": "qat"}


@dataclass
class TriedData:
    """context: of any stage; stages: those that will read the data."""

    context: Context
    stages: Sequence[str]

    def check(self) -> None:
        """Open every role and compare a picture of each with `model.input`.

        Raises DiagnosticError: QS909 for an empty set, QS918 for classes that differ, QS942 for
        pictures of another shape, and what opening and reading raise."""
        for role in self._roles():
            loader = self._loader(role)
            picture = tuple(_first(replace(loader, batch_size=1)).images.shape[1:])
            wanted = self.context.spec.input
            fixed = role == "val" and "convert" in self.stages
            if picture[0] != wanted.channels or (fixed and picture[1:] != wanted.size):
                raise DiagnosticError(self._other_shape(role, picture))

    def step(self, stage: str, model: nn.Module) -> None:
        """The loss of the stage's first batch; `model` is in training mode.

        Raises DiagnosticError QS943 where a batch norm gets one number a channel, PluginFault."""
        batch = _first(self._loader(_ROLES[stage], stage)).to(self.context.device)
        try:
            with torch.no_grad():
                Loss(model, synchronized=False)(batch.images, batch.targets)
        except (ValueError, PluginFault) as error:
            if "more than 1 value per channel" not in str(error.__cause__ or error):
                raise
            raise DiagnosticError(self._one_value(stage, len(batch.images))) from error

    def epoch_steps(self, stage: str) -> int:
        """Batches of an epoch of a training stage."""
        return self._loader(_ROLES[stage], stage).epoch_steps

    def observe(self, model: nn.Module) -> None:
        """One batch of data.calibration through `model`."""
        batch = _first(self._loader("calibration", "calibration"))
        with torch.no_grad():
            model(batch.images.to(self.context.device))

    def judge(self, model: nn.Module) -> None:
        """Validate on two pictures of data.val. Raises PluginFault and DiagnosticError."""
        rehearse(model, self._loader("val"), self.context.device)

    def _roles(self) -> list[str]:
        roles = [_ROLES[stage] for stage in self.stages if stage in _ROLES]
        return [*dict.fromkeys(roles), "val"]

    def _loader(self, role: str, stage: str | None = None) -> Loader:
        size = self.context.spec.stages[stage].batch_size if stage else None
        return replace(self.context.loader(role, size), workers=0)

    def _other_shape(self, role: str, picture: tuple[int, ...]) -> Diagnostic:
        wanted = self.context.spec.input
        return QS942.diagnostic(
            f"data.{role} gives pictures of shape {picture} (channels, height, width), "
            f"`model.input` says {(wanted.channels, *wanted.size)}",
            help="give both the same `size` and `channels`",
            at=self.context.spec.data[role].dataset.at,
        )

    def _one_value(self, stage: str, images: int) -> Diagnostic:
        spec = self.context.spec
        own = spec.stages[stage].batch_size is not None
        role = spec.data[_ROLES[stage]]
        key = "batch_size_per_gpu" if own else "batch_size"
        return QS943.diagnostic(
            f"stage {stage} trains on batches of {images} picture, and a batch norm of the "
            "model gets one number a channel, which has no variance",
            help=f"set `{key}: 2` or more, with as many pictures in the set",
            at=f"/stages/{stage}/batch_size_per_gpu" if own else f"{role.at}/batch_size",
        )


def _first(loader: Loader) -> Batch:
    return next(iter(loader.shuffled(0)))
