"""F.grid_sample at positions that no image changes: pixels at constant places, weighted, added."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx

from qatspec.graph.constants import evaluate
from qatspec.prepare.appending import is_table

_PICTURE = 4


def _grid_sample(
    x: Any,
    grid: Any,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Any:
    """As torch's, for `bilinear` and `nearest`, with zeros or the border outside."""
    points = _points(x, grid)
    tracer: Any = None if points is None else x.tracer  # an `Appending`
    if points is None or mode not in ("bilinear", "nearest"):
        return NotImplemented
    if padding_mode not in ("zeros", "border"):
        return NotImplemented
    height, width = x.node.meta["example"].shape[2:]
    flat, total = x.flatten(2), None
    at = _pixels(points, height, width, bool(align_corners), padding_mode == "border")
    for pixel, weight in _corners(*at, height, width, mode == "nearest"):
        part = flat[:, :, tracer.buffer(pixel.reshape(-1))]
        if not bool((weight == 1).all()):
            part = part * tracer.buffer(weight.float().reshape(1, 1, -1))
        total = part if total is None else total + part
    return None if total is None else total.unflatten(2, tuple(points.shape[:2]))


def _points(x: Any, grid: Any) -> Tensor | None:
    """The positions (height, width, 2) that all images share; None where they are not known."""
    if not isinstance(x, fx.Proxy) or x.node.meta["example"].ndim != _PICTURE:
        return None
    if isinstance(grid, fx.Proxy):
        if not is_table(grid.node):
            return None
        tracer: Any = x.tracer
        grid = evaluate(tracer.module, grid.node)
    if not isinstance(grid, Tensor) or not torch.equal(grid, grid[:1].expand_as(grid)):
        return None
    return grid[0].detach()


def _pixels(
    points: Tensor, height: int, width: int, corners: bool, border: bool
) -> tuple[Tensor, Tensor]:
    """(column, row) of each point, in pixels; in float32 as torch computes it, so that halves round
    alike."""
    result = []
    for value, size in zip(points.unbind(-1), (width, height), strict=True):
        pixel = (value + 1) / 2 * (size - 1) if corners else ((value + 1) * size - 1) / 2
        result.append(pixel.clamp(0, size - 1) if border else pixel)
    return result[0], result[1]


def _corners(
    column: Tensor, row: Tensor, height: int, width: int, nearest: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (index of the pixel, weight) for each pixel that a point reads; outside the picture the
    weight is 0. The first is yielded even where all its weights are 0."""
    left, top = column.floor(), row.floor()
    if nearest:
        left, top = column.round(), row.round()
    for i, (down, right) in enumerate([(0, 0)] if nearest else product((0, 1), repeat=2)):
        weight = torch.ones_like(column)
        if not nearest:
            across, along = column - left, row - top
            weight = (across if right else 1 - across) * (along if down else 1 - along)
        x, y = left + right, top + down
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        weight = weight * inside
        if i == 0 or bool((weight > 0).any()):
            yield (y.clamp(0, height - 1) * width + x.clamp(0, width - 1)).long(), weight


DEFINITIONS: Mapping[Any, Callable[..., Any]] = {F.grid_sample: _grid_sample}
