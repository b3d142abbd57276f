"""The float stage: ordinary training."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice

from torch import nn

from qatspec.stages.context import Context, Outcome
from qatspec.stages.loading import load_given
from qatspec.stages.training import judge_kept, train
from qatspec.train.settle import settle

#: Batches whose statistics fresh batch norms get in a smoke run.
_SETTLING_BATCHES = 4


def run(context: Context) -> Outcome:
    """Train the model in float, from the weights that the spec names or from its initial ones."""
    model = context.build_model()
    if context.group.is_main:
        told, warnings = load_given(context, model)
        if told:
            context.report("log", {"message": told})
        context.warn(warnings)
    model.load_state_dict(context.group.from_main(model.state_dict))
    model.to(context.device)
    if context.limit is not None and context.resumable() is None:
        _settle(context, model)
    trainer = context.spec.stages["float"].trainer
    autocast = trainer.amp if trainer else None
    return train(context, model, to_train=model.train, to_eval=model.eval, autocast=autocast)


def judge(context: Context) -> Outcome:
    """Judge the kept epochs again and choose the best one again, without training."""
    model = context.build_model().to(context.device)
    return judge_kept(context, model, to_eval=model.eval)


def _settle(context: Context, model: nn.Module) -> None:
    """Before the two steps of a smoke run: give fresh batch norms statistics of the data."""
    stage = context.spec.stages["float"]
    if stage.trainer is not None and stage.trainer.batch_norm == "frozen":
        return
    loader = replace(context.loader("train", stage.batch_size), workers=0)
    read = islice(loader.shuffled(0), _SETTLING_BATCHES)
    batches = [batch.to(context.device).inputs for batch in read]
    if count := settle(model, batches):
        counted = f"{len(batches)} batch{'es' * (len(batches) > 1)}"
        message = f"{count} fresh batch norms begin with the statistics of {counted}"
        context.report("log", {"message": message})
