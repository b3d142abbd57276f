"""Metrics of anything that turns images into a model's raw outputs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError, PluginFault
from qatspec.process import interrupt
from qatspec.registry import registry
from qatspec.train.distributed import ALONE, Processes
from qatspec.train.judging import judge
from qatspec.train.loader import Loader
from qatspec.train.protocol import metrics_of, predictions_of
from qatspec.types import TaskModel

#: Inputs of the model, in the order of forward, to its raw outputs.
Produce = Callable[..., Any]
Predict = Callable[[Any], list[dict[str, Tensor]]]
Progress = Callable[[int, int], None]
#: Takes what a data set tells of each class (Dataset.details), the metrics of the same evaluation,
#: and the number of its images.
Tell = Callable[[Mapping[str, Any], Mapping[str, float], int], None]
#: meta and prediction of an image
Predicted = tuple[Mapping[str, Any], Mapping[str, np.ndarray]]


def evaluate(
    produce: Produce,
    predict: Predict,
    loader: Loader,
    *,
    device: torch.device,
    progress: Progress | None = None,
    group: Processes = ALONE,
    tell: Tell | None = None,
) -> dict[str, float]:
    """Run the whole set through `produce` (inputs to raw outputs) and `predict`, and let the data
    set judge: metrics, 0-100.

    group: every process of it calls this function. Each predicts a part of the batches, rank 0
    judges all of them in the data set's order, and all return its metrics.
    tell: called in rank 0 where the data set has `details`."""
    predicted = _predicted(produce, predict, loader, device=device, progress=progress, group=group)
    made = _merged(predicted, loader, group, device)
    metrics: dict[str, float] = group.from_main(lambda: _judged(predict, loader, made, tell))
    return metrics


def _judged(
    predict: Predict, loader: Loader, made: Sequence[Predicted], tell: Tell | None
) -> dict[str, float]:
    dataset = loader.dataset
    with registry().attribute_errors_of(getattr(dataset, "limited", dataset), "evaluate"):
        metrics = judge(dataset, predict, loader.definition, made)
    checked = metrics_of(dataset, loader.definition, metrics)
    details = getattr(getattr(dataset, "limited", dataset), "details", None)
    if tell is not None and details is not None:
        # No training ends because of what only a report shows; `qatspec report` calls `details`
        # again where nothing is recorded, and then reports its errors.
        with contextlib.suppress(Exception):
            tell(details(made), checked, len(made))
    return checked


@torch.no_grad()
def rehearse(model: nn.Module, loader: Loader, device: torch.device) -> None:
    """Evaluate two images before a training, so that what `predict` and `evaluate` of a plugin
    return wrongly is reported before hours of training and not after them.

    model: in its evaluation mode; neither it nor torch's generators are changed. What `evaluate`
    raises is ignored, because two images need not be enough for it, unless it is a diagnostic (a
    package that is not installed).

    Raises PluginFault, DiagnosticError.
    """
    few = replace(loader, batch_size=min(2, loader.batch_size), workers=0)
    predict = cast(TaskModel, model).predict
    with torch.random.fork_rng():
        made = predictions(model, predict, few, device=device, batches=1)
    try:
        metrics = judge(loader.dataset, predict, loader.definition, made)
    except (DiagnosticError, PluginFault):
        raise
    except Exception:  # noqa: BLE001  code of a plugin, on less than it is made for
        return
    chooses = loader.definition.metric if loader.definition else ""
    if not isinstance(metrics, Mapping) or chooses not in metrics:
        metrics_of(loader.dataset, loader.definition, metrics)


@torch.no_grad()
def predictions(
    produce: Produce,
    predict: Predict,
    loader: Loader,
    *,
    device: torch.device,
    progress: Progress | None = None,
    batches: int | None = None,
) -> list[Predicted]:
    """(meta, prediction) of every image, in the data set's order. batches: the maximum number of
    batches."""
    predicted = _predicted(
        produce, predict, loader, device=device, progress=progress, batches=batches
    )
    return list(chain.from_iterable(predicted.values()))


@torch.no_grad()
def _predicted(
    produce: Produce,
    predict: Predict,
    loader: Loader,
    *,
    device: torch.device,
    progress: Progress | None,
    batches: int | None = None,
    group: Processes = ALONE,
) -> dict[int, list[Predicted]]:
    """Number of a batch -> its predictions, of this process's batches."""
    made: dict[int, list[Predicted]] = {}
    done, total = 0, len(loader.dataset)
    owner = getattr(predict, "__self__", predict)
    for batch in islice(loader.ordered(group.rank, group.world), batches):
        if group.world == 1:
            interrupt.check()
        elif interrupt.requested():
            break  # `_merged` stops all processes
        with registry().attribute_errors_of(produce, "forward"):
            outputs = produce(*batch.to(device).inputs)
        with registry().attribute_errors_of(owner, "predict"):
            decoded = predict(outputs)
        arrays = predictions_of(owner, decoded, len(batch.metas))
        number = batch.number * group.world + group.rank
        made[number] = list(zip(batch.metas, arrays, strict=True))
        done = min(total, done + len(batch.metas) * group.world)
        if progress:
            progress(done, total)
    return made


def _merged(
    predicted: dict[int, list[Predicted]], loader: Loader, group: Processes, device: torch.device
) -> list[Predicted]:
    """The predictions of all processes in the data set's order, in rank 0."""
    if group.world > 1 and group.stopping(device):
        interrupt.check()
    batches = {number: batch for part in group.to_main(predicted) for number, batch in part.items()}
    made = [one for number in sorted(batches) for one in batches[number]]
    if group.is_main and not made:
        list(loader.ordered())  # raises what keeps every example from being read
    return made
