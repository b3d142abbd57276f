"""The calibration stage: observe activations in eval mode, weights untouched."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from qatspec.graph.calibrated import calibration_warnings
from qatspec.graph.weights import require_finite_activations
from qatspec.plan.checkpoints import checkpoint_path
from qatspec.prepare import set_stage
from qatspec.process import interrupt
from qatspec.quant.scales import scales_of
from qatspec.spec import Trainer
from qatspec.stages.context import Context, Outcome
from qatspec.stages.decisions import write_decisions
from qatspec.stages.loading import load_source, prepare_from
from qatspec.stages.training import chosen_outcome, judge_kept, validator
from qatspec.train.checkpoint import Checkpoint, rng_state, save
from qatspec.train.loader import Batch, Loader


def run(context: Context) -> Outcome:
    """Show the observers `trainer.steps` batches of data.calibration, then judge the model with
    its fake-quants on. Observers take the batches of all processes as one (`quant.observers`)."""
    stage = context.spec.stages["calibration"]
    trainer = stage.trainer or Trainer()
    prepared = prepare_from(context, "calibration", context.source, partial(load_source, context))
    prepared.model.to(context.device)

    loader = context.loader("calibration", stage.batch_size)
    total = trainer.steps or (trainer.epochs or 1) * loader.epoch_steps
    done = 0
    if (resumed := context.resumable()) is not None:
        prepared.model.load_state_dict(dict(resumed.state_dict))
        done = resumed.step

    def keep(*names: str, metrics: dict[str, float] | None = None) -> None:
        epoch, batch = divmod(done, loader.epoch_steps)
        checkpoint = Checkpoint(
            stage="calibration",
            epoch=epoch,
            step=done,
            state_dict=prepared.model.state_dict(),
            rng=rng_state(context.seed),
            sampler={"epoch": epoch, "batch": batch},
            metrics=metrics or {},
            march=context.spec.march,
            digests=context.digests,
        )
        if context.group.is_main:
            context.report("checkpoint", {"step": done, "names": list(names)})
            save(checkpoint, *(checkpoint_path(context.folder, "calibration", n) for n in names))

    saved = checkpoint_path(context.folder, "calibration", "last")
    set_stage(prepared, "calibration")
    with torch.no_grad(), interrupt.deferred():
        for batch in itertools.islice(_batches(loader, done), total - done):
            prepared.model(*batch.to(context.device).inputs)
            done += 1
            require_finite_activations(prepared, f"batch {done}")
            images = len(batch) * context.group.world
            told = {"done": done, "total": total, "unit": "step", "images": images}
            context.report("progress", told)
            stopping = context.group.stopping(context.device)
            if stopping or done % trainer.checkpoint_steps == 0 or done == total:
                keep("last")
                interrupt.check(saved, f"step {done} of {total}")

    validate = validator(context, prepared.model, lambda: set_stage(prepared, "eval"))
    context.warn(calibration_warnings(prepared))
    with interrupt.saved_before(saved, f"step {done} of {total}"):
        metrics = dict(validate())
    context.report("metrics", {"step": done, **metrics})
    context.report("scales", {"step": done, "scales": scales_of(prepared.model)})
    keep("best", "last", metrics=metrics)
    paths = [checkpoint_path(context.folder, "calibration", n) for n in ("best", "last")]
    outcome = chosen_outcome(context, metrics, paths)
    return replace(outcome, outputs=(*outcome.outputs, write_decisions(context, prepared)))


def judge(context: Context) -> Outcome:
    """Evaluate the calibrated model again, without calibrating it."""
    prepared = context.prepare("calibration")
    prepared.model.to(context.device)
    outcome = judge_kept(context, prepared.model, to_eval=lambda: set_stage(prepared, "eval"))
    return replace(outcome, outputs=(*outcome.outputs, write_decisions(context, prepared)))


def _batches(loader: Loader, start: int) -> Iterator[Batch]:
    """Epoch after epoch without end, from batch number `start` on."""
    epoch, batch = divmod(start, loader.epoch_steps)
    for number in itertools.count(epoch):
        yield from loader.shuffled(number, batch if number == epoch else 0)
