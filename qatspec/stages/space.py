"""The disk space that a run takes, estimated before its first training."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from qatspec.diag.codes import QS937
from qatspec.spec import Trainer
from qatspec.train.optim import tensors_per_parameter

#: Checkpoints of a training stage beside those of judged epochs: `last` and `best`.
_NAMED = 2


@dataclass(frozen=True, slots=True)
class Need:
    """The files that a stage writes.

    files: how many; each: bytes of one; validate_epochs: None where the stage keeps no epochs, else
    how many epochs lie between two that are kept; epochs: how many it has.
    """

    stage: str
    files: int
    each: int
    validate_epochs: int | None = None
    epochs: int = 0

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return self.files * self.each


def of_training(
    stage: str, model: nn.Module, state: Mapping[str, Tensor], trainer: Trainer, epoch_steps: int
) -> Need:
    """Files of a float or qat stage: the checkpoints of evaluated epochs, `last` and `best`.

    state: the state dict of a checkpoint. A checkpoint also has the optimizer's tensors and the
    moving average. Names and headers of tensors are not counted.
    """
    assert trainer.optimizer is not None  # the schema requires it of a stage that trains
    trained = _bytes(p for p in model.parameters() if p.requires_grad)
    each = _bytes(state.values()) * (1 if trainer.ema is None else 2)
    each += trained * tensors_per_parameter(trainer.optimizer)
    epochs = trainer.epochs or -(-(trainer.steps or 0) // epoch_steps)
    kept = _kept(epochs, trainer.validate_epochs)
    return Need(stage, kept + _NAMED, each, trainer.validate_epochs, epochs)


def of_calibration(state: Mapping[str, Tensor]) -> Need:
    """What a calibration writes: `last` and `best`, without an optimizer."""
    return Need("calibration", _NAMED, _bytes(state.values()))


def of_files(stage: str, folder: Path, before: int = 0) -> Need:
    """What a stage writes that has written files of the same sizes into `folder`.

    before: bytes that were there already.
    """
    sizes = [path.stat().st_size for path in folder.rglob("*") if path.is_file()]
    return Need(stage, 1, sum(sizes) - before)


def demand_space(needs: Sequence[Need], workdir: Path, present: int) -> None:
    """Raise DiagnosticError QS937 where the file system of `workdir` has too little free space.

    present: bytes of files that are there already, from which a training resumes.
    """
    largest = max((need.each for need in needs), default=0)  # a file is replaced by a whole one
    wanted = sum(need.total for need in needs) + largest - present
    free = _free(workdir)
    if free is None or wanted <= free:
        return
    parts = ", ".join(
        f"{need.stage} {_amount(need.total)}"
        + (f" ({need.files} checkpoints of {_amount(need.each)})" if need.files > 1 else "")
        for need in needs
    )
    raise QS937.error(
        f"the run will write about {_amount(wanted)} into `{workdir}`, where "
        f"{_amount(max(free, 0))} are free: {parts}",
        help=_advice(needs, free + present - largest),
        at=f"/stages/{needs[0].stage}",
    )


def _advice(needs: Sequence[Need], free: int) -> str:
    """What to do; with the smallest number of epochs between two kept ones that is enough."""
    longest = max((need.epochs for need in needs), default=0)
    for between in range(2, longest + 1):
        fewer = [
            (_kept(need.epochs, between) + _NAMED) * need.each
            if need.validate_epochs is not None and between > need.validate_epochs
            else need.total
            for need in needs
        ]
        if sum(fewer) <= free:
            return (
                f"free space, choose another `--workdir`, or set `validate_epochs: {between}` in "
                "each `trainer` that has epochs, which keeps fewer of them"
            )
    return "free space, or choose another `--workdir`"


def _kept(epochs: int, between: int) -> int:
    """How many epochs are judged, each of which is kept: every so many, and the last one."""
    return -(-epochs // between)


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(t.numel() * t.element_size() for t in tensors)


def _free(folder: Path) -> int | None:
    """Bytes that this user may still write where `folder` is or will be; None where the system
    does not say."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        status = os.statvfs(folder)
    except (OSError, AttributeError):
        return None
    return status.f_bavail * status.f_frsize


def _amount(size: int) -> str:
    for power, unit in ((40, "TiB"), (30, "GiB"), (20, "MiB"), (10, "KiB")):
        if size >= 1 << power:
            return f"{size / (1 << power):.1f} {unit}"
    return f"{size} bytes"
