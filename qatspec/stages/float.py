"""The float stage: ordinary training."""

from __future__ import annotations

from qatspec.stages.context import Context, Outcome
from qatspec.stages.training import train


def run(context: Context) -> Outcome:
    """Train the model in float."""
    model = context.build_model().to(context.device)
    return train(context, model, to_train=model.train, to_eval=model.eval)
