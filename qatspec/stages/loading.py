"""Starting a stage from an earlier stage's checkpoint."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from qatspec.stages.context import Context
from qatspec.train.checkpoint import Checkpoint, load_weights


def load_source(context: Context, model: nn.Module) -> None:
    """Load the weights that the stage starts from into its prepared model.

    Raises DiagnosticError: QS901, QS905 (no such checkpoint, or damaged), QS902 (it does not fit).
    """
    solver = context.spec.stages[context.stage].solver
    checkpoint, path = context.source_checkpoint(solver.pre_step_checkpoint)
    load_stage(
        model,
        checkpoint,
        path,
        allow_miss=solver.allow_miss,
        ignore_extra=solver.ignore_extra,
    )


def load_stage(
    model: nn.Module,
    checkpoint: Checkpoint,
    path: Path,
    *,
    allow_miss: bool = False,
    ignore_extra: bool = False,
) -> None:
    """Load another stage's checkpoint into a prepared model.

    A float checkpoint knows no fake-quants; any other must know the scales of all. What observers
    have seen is carried over where the observer is the same: stages may use different ones.
    Raises DiagnosticError QS902.
    """
    from_float = checkpoint.stage == "float"
    own = model.state_dict().keys()
    load_weights(
        model,
        {k: v for k, v in checkpoint.weights.items() if k in own or not _is_observer(k)},
        source=path,
        allow_miss=allow_miss,
        ignore_extra=ignore_extra,
        new=lambda key: _is_observer(key) or (from_float and _is_fake_quant(key)),
    )


def _is_fake_quant(key: str) -> bool:
    """Does a state dict's key belong to a fake-quant (contracts 20)?"""
    return any(
        part == "weight_fake_quant" or part.endswith("_activation_post_process_0")
        for part in key.split(".")
    )


def _is_observer(key: str) -> bool:
    """Does a state dict's key belong to the observer inside a fake-quant?"""
    return "activation_post_process" in key.split(".")
