"""The qat stage: training with fake-quants in place."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from qatspec.prepare import set_stage
from qatspec.prepare.products import reduce_products
from qatspec.stages.context import Context, Outcome
from qatspec.stages.decisions import write_decisions
from qatspec.stages.loading import load_source, prepare_from
from qatspec.stages.training import judge_kept, train
from qatspec.train.loss import AMP_DTYPES


def run(context: Context) -> Outcome:
    """Train the prepared model from the calibration checkpoint (or from float, where the qconfig
    lets activation ranges move)."""
    prepared = prepare_from(context, "qat", context.source, partial(load_source, context))
    prepared.model.to(context.device)
    trainer = context.spec.stages["qat"].trainer
    reduce_products(prepared, AMP_DTYPES[trainer.amp] if trainer and trainer.amp else None)
    outcome = train(
        context,
        prepared.model,
        to_train=lambda: set_stage(prepared, "qat"),
        to_eval=lambda: set_stage(prepared, "eval"),
    )
    return replace(outcome, outputs=(*outcome.outputs, write_decisions(context, prepared)))


def judge(context: Context) -> Outcome:
    """Judge the kept epochs again and choose the best one again, without training."""
    prepared = context.prepare("qat")
    prepared.model.to(context.device)
    outcome = judge_kept(context, prepared.model, to_eval=lambda: set_stage(prepared, "eval"))
    return replace(outcome, outputs=(*outcome.outputs, write_decisions(context, prepared)))
