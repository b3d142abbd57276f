"""What the stages that train or observe have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import nn

from qatspec.spec import Trainer
from qatspec.stages.context import Context, Outcome
from qatspec.train.evaluate import evaluate
from qatspec.train.loop import Training, checkpoint_path, fit
from qatspec.types import TaskModel


def validator(
    context: Context, model: nn.Module, to_eval: Callable[[], object]
) -> Callable[[], Mapping[str, float]]:
    """A call that judges `model` as it stands on data.val."""
    loader = context.loader("val")

    def validate() -> Mapping[str, float]:
        to_eval()
        return evaluate(
            model,
            cast(TaskModel, model).predict,
            loader,
            device=context.device,
            progress=validation_progress(context),
        )

    return validate


def validation_progress(context: Context) -> Callable[[int, int], None]:
    """Tell of images done while evaluating."""
    return lambda done, total: context.report(
        "progress", {"done": done, "total": total, "unit": "image", "phase": "evaluate"}
    )


def train(
    context: Context,
    model: nn.Module,
    *,
    to_train: Callable[[], object],
    to_eval: Callable[[], object],
) -> Outcome:
    """Train `model` as the stage's trainer says, from this stage's last checkpoint if it has one;
    the metrics are the best checkpoint's."""
    stage = context.spec.stages[context.stage]
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
    )
    metrics, paths = fit(training, resume=context.resumable())
    best = checkpoint_path(context.folder, context.stage, "best")
    return Outcome(metrics=metrics, outputs=(best, *(p for p in paths if p != best)))
