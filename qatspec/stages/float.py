"""The float stage: ordinary training."""

from __future__ import annotations

from qatspec.stages.context import Context, Outcome
from qatspec.stages.loading import load_given
from qatspec.stages.training import train


def run(context: Context) -> Outcome:
    """Train the model in float, from the weights that the spec names or from its own beginning."""
    model = context.build_model()
    load_given(context, model)
    model.to(context.device)
    return train(context, model, to_train=model.train, to_eval=model.eval)
