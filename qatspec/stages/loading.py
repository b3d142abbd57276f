"""Starting a stage from an earlier stage's checkpoint."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from qatspec.diag import Diagnostic
from qatspec.graph import Prepared
from qatspec.spec import weights_file
from qatspec.stages.context import Context
from qatspec.train.checkpoint import load_weights
from qatspec.train.given import load_state


def load_given(context: Context, model: nn.Module) -> tuple[str, tuple[Diagnostic, ...]]:
    """Load the file of weights that the spec names for the float model, if it names one.

    Returns (what was recognised in the file and done to it, "" without a file; warnings). Raises
    DiagnosticError as `load_state`.
    """
    solver = context.spec.stages[context.stage].solver
    path = weights_file(context.spec, solver)
    if path is None:
        return "", ()
    loaded = load_state(
        model,
        path,
        entry=solver.entry,
        key_map=solver.key_map,
        fresh=solver.fresh,
        allow_miss=solver.allow_miss,
        ignore_extra=solver.ignore_extra,
        at=solver.at,
    )
    told = "; ".join(loaded.told) or "the keys as they are"
    return f"weights of `{path.name}`: {told}", loaded.warnings


def prepare_from(
    context: Context, stage: str, source: str | None, load: Callable[[nn.Module], None]
) -> Prepared:
    """Prepare the model of `stage` with the weights that it starts from.

    source: the stage that they are of; load: puts them into a model. Fuser methods of the spec
    compute new weights from those of a float model, so that it gets them before it is prepared; any
    other model gets them afterwards.

    Raises DiagnosticError as `load` and prepare do.
    """
    leaves = context.spec.quantization(stage)
    fuses = any(leaf.prepare and leaf.prepare.additional_fuser_method_mapping for leaf in leaves)
    if source == "float" and fuses:
        return context.prepare(stage, load=load)
    prepared = context.prepare(stage)
    load(prepared.model)
    return prepared


def load_source(context: Context, model: nn.Module) -> None:
    """Load the weights that the stage starts from into its prepared model.

    Raises DiagnosticError: QS901, QS905 (no such checkpoint, or damaged), QS902 (it does not fit),
    QS941 (its scales have no dtype).
    """
    solver = context.spec.stages[context.stage].solver
    checkpoint, path = context.source_checkpoint(solver.pre_step_checkpoint)
    warnings = load_weights(
        model,
        checkpoint.weights,
        source=path,
        allow_miss=solver.allow_miss,
        ignore_extra=solver.ignore_extra,
    )
    context.warn(warnings)
