"""What the stages that train or observe have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import nn

from qatspec.plan.checkpoints import checkpoint_files, checkpoint_path, read_header
from qatspec.spec import Trainer
from qatspec.stages.context import Context, Outcome
from qatspec.stages.exhausted import too_large
from qatspec.train.chosen import Judging, gives, judge_again
from qatspec.train.evaluate import Tell, evaluate
from qatspec.train.loop import Training, fit
from qatspec.types import TaskModel


def validator(
    context: Context, model: nn.Module, to_eval: Callable[[], object]
) -> Callable[[], Mapping[str, float]]:
    """A function that evaluates `model` with its current weights on data.val; every process of the
    stage calls it, and evaluates a part with the weights of rank 0. Lays out `model` in memory as
    the stage's trainer asks."""
    trainer = context.spec.stages[context.stage].trainer or Trainer()
    lay_out(model, trainer)
    loader = context.loader("val")

    def validate() -> Mapping[str, float]:
        to_eval()
        context.group.agree(model)
        return evaluate(
            model,
            cast(TaskModel, model).predict,
            loader,
            device=context.device,
            progress=validation_progress(context),
            group=context.group,
            tell=class_details(context),
        )

    return validate


def lay_out(model: nn.Module, trainer: Trainer) -> None:
    """Give the weights of 2-d convolutions the memory format that a trainer asks for; convolutions
    compute in the format of their weights."""
    if trainer.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def validation_progress(context: Context) -> Callable[[int, int], None]:
    """Tell of images done while evaluating."""
    return lambda done, total: context.report(
        "progress", {"done": done, "total": total, "unit": "image", "phase": "evaluate"}
    )


def class_details(context: Context) -> Tell:
    """Report what the data set tells of each class, for `qatspec report`."""
    chooses = context.metric()

    def tell(details: Mapping[str, Any], metrics: Mapping[str, float], images: int) -> None:
        data = {"details": details, "metrics": metrics, "images": images, "metric": chooses}
        context.report("details", data)

    return tell


def train(
    context: Context,
    model: nn.Module,
    *,
    to_train: Callable[[], object],
    to_eval: Callable[[], object],
    autocast: Literal["bf16", "fp16"] | None = None,
) -> Outcome:
    """Train `model` as the stage's trainer says, from this stage's last checkpoint if it has one;
    the metrics are the best checkpoint's. autocast: format of torch's autocast in forward."""
    stage = context.spec.stages[context.stage]
    resumed = context.resumable()
    training = Training(
        stage=context.stage,
        model=model,
        to_train=to_train,
        trainer=stage.trainer or Trainer(),
        loader=context.loader("qat" if context.stage == "qat" else "train", stage.batch_size),
        validate=validator(context, model, to_eval),
        metric=context.metric(),
        folder=context.folder,
        device=context.device,
        seed=context.seed,
        march=context.spec.march,
        digests=context.digests,
        group=context.group,
        report=context.report,
        profile=context.profile,
        autocast=autocast,
    )
    try:
        metrics, paths = fit(training, resume=resumed)
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise too_large(context.spec, context.stage, training.loader.batch_size, error) from error
    if context.group.from_main(lambda: _judged_otherwise(context)):
        metrics, paths = judge_again(
            judging(context, model, to_eval), context.folder, context.folder
        )
    return chosen_outcome(context, metrics, paths)


def _judged_otherwise(context: Context) -> bool:
    """Return whether any checkpoint in the stage's folder was judged by other settings than now:
    the training was interrupted under them."""
    paths = checkpoint_files(context.folder, context.stage)
    evaluations = {header.evaluation for header in map(read_header, paths) if header is not None}
    return evaluations != {context.digests["evaluation"]}


def judge_kept(context: Context, model: nn.Module, *, to_eval: Callable[[], object]) -> Outcome:
    """Judge the kept checkpoints of the finished stage again, and choose `best` again."""
    kept = context.workdir / context.stage
    judged = judge_again(judging(context, model, to_eval), kept, context.folder)
    return chosen_outcome(context, *judged)


def judging(context: Context, model: nn.Module, to_eval: Callable[[], object]) -> Judging:
    """The evaluation of the kept checkpoints of the stage in `model`."""
    return Judging(
        stage=context.stage,
        model=model,
        validate=validator(context, model, to_eval),
        metric=context.metric(),
        march=context.spec.march,
        digests=context.digests,
        report=context.report,
        group=context.group,
    )


def chosen_outcome(
    context: Context, metrics: Mapping[str, float], paths: Sequence[Path]
) -> Outcome:
    """The outcome of a stage that leaves the checkpoints `paths`, the best one with `metrics`."""
    best = checkpoint_path(context.folder, context.stage, "best")
    chosen = gives(context.folder, context.stage) if context.group.is_main else {}
    outputs = (best, *(p for p in paths if p != best))
    return Outcome(metrics=metrics, outputs=outputs, gives=chosen)
