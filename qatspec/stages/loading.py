"""Starting a stage from an earlier stage's checkpoint."""

from __future__ import annotations

from torch import nn

from qatspec.stages.context import Context
from qatspec.train.checkpoint import load_weights


def load_source(context: Context, model: nn.Module) -> None:
    """Load the weights that the stage starts from into its prepared model.

    Raises DiagnosticError: QS901, QS905 (no such checkpoint, or damaged), QS902 (it does not fit).
    """
    solver = context.spec.stages[context.stage].solver
    checkpoint, path = context.source_checkpoint(solver.pre_step_checkpoint)
    load_weights(
        model,
        checkpoint.weights,
        source=path,
        allow_miss=solver.allow_miss,
        ignore_extra=solver.ignore_extra,
    )
