"""The float stage: ordinary training."""

from __future__ import annotations

from qatspec.stages.context import Context, Outcome
from qatspec.stages.loading import load_given
from qatspec.stages.training import judge_kept, train


def run(context: Context) -> Outcome:
    """Train the model in float, from the weights that the spec names or from its initial ones."""
    model = context.build_model()
    told, warnings = load_given(context, model)
    if told:
        context.report("log", {"message": told})
    context.warn(warnings)
    model.to(context.device)
    return train(context, model, to_train=model.train, to_eval=model.eval)


def judge(context: Context) -> Outcome:
    """Judge the kept epochs again and choose the best one again, without training."""
    model = context.build_model().to(context.device)
    return judge_kept(context, model, to_eval=model.eval)
