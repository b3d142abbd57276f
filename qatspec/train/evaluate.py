"""Metrics of anything that turns images into a model's raw outputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qatspec.train.loader import Loader

Produce = Callable[[Tensor], Any]
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
    """Run the whole set through `produce` (images (N, C, H, W) to raw outputs) and `predict`, and
    let the data set judge: metrics, 0-100."""
    return loader.dataset.evaluate(
        predictions(produce, predict, loader, device=device, progress=progress)
    )


@torch.no_grad()
def predictions(
    produce: Produce,
    predict: Predict,
    loader: Loader,
    *,
    device: torch.device,
    progress: Progress | None = None,
) -> list[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]:
    """(meta, prediction) of every image, in the data set's order."""
    found: list[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]] = []
    for batch in loader.ordered():
        decoded = predict(produce(batch.images.to(device)))
        arrays = [{k: v.cpu().numpy() for k, v in one.items()} for one in decoded]
        found += zip(batch.metas, arrays, strict=True)
        if progress:
            progress(len(found), len(loader.dataset))
    return found
