"""Metrics of anything that turns images into a model's raw outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError, PluginFault
from qatspec.process import interrupt
from qatspec.registry import registry
from qatspec.train.loader import Loader
from qatspec.train.protocol import judge, metrics_of, predictions_of
from qatspec.types import TaskModel

#: Inputs of the model, in the order of forward, to its raw outputs.
Produce = Callable[..., Any]
Predict = Callable[[Any], list[dict[str, Tensor]]]
Progress = Callable[[int, int], None]


def evaluate(
    produce: Produce,
    predict: Predict,
    loader: Loader,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> dict[str, float]:
    """Run the whole set through `produce` (inputs to raw outputs) and `predict`, and
    let the data set judge: metrics, 0-100."""
    made = predictions(produce, predict, loader, device=device, progress=progress)
    dataset = loader.dataset
    with registry().attribute_errors_of(getattr(dataset, "limited", dataset), "evaluate"):
        metrics = judge(dataset, predict, loader.definition, made)
    return metrics_of(dataset, loader.definition, metrics)


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
) -> list[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]:
    """(meta, prediction) of every image, in the data set's order. batches: the maximum number of
    batches."""
    made: list[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]] = []
    owner = getattr(predict, "__self__", predict)
    for batch in islice(loader.ordered(), batches):
        interrupt.check()
        with registry().attribute_errors_of(produce, "forward"):
            outputs = produce(*batch.to(device).inputs)
        with registry().attribute_errors_of(owner, "predict"):
            decoded = predict(outputs)
        arrays = predictions_of(owner, decoded, len(batch.metas))
        made += zip(batch.metas, arrays, strict=True)
        if progress:
            progress(len(made), len(loader.dataset))
    return made
