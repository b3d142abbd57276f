"""Maps to points: every cell of every map is a point of the picture that may hold an object.

The points of all maps stand in one row of length A, finest map first, row by row.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

Outputs = tuple[Sequence[Tensor], Sequence[Tensor], Sequence[Tensor]]


class Points(NamedTuple):
    """What the head says at each point.

    logits      (N, A, num_classes)
    boxes       (N, A, 4) xyxy in input pixels
    centerness  (N, A) logits
    xy          (A, 2) centres of the cells in input pixels
    stride      (A,)
    """

    logits: Tensor
    boxes: Tensor
    centerness: Tensor
    xy: Tensor
    stride: Tensor


def gather_points(outputs: Outputs, strides: Sequence[int]) -> Points:
    """Raw head outputs -> Points: here live the ReLU and the x stride of the distances."""
    classes, distances, centerness = outputs
    grids = [_grid(m, s) for m, s in zip(classes, strides, strict=True)]
    xy = torch.cat(grids)
    stride = torch.cat(
        [grid.new_full((len(grid),), s) for grid, s in zip(grids, strides, strict=True)]
    )
    offset = _rows(distances).relu() * stride[:, None]
    boxes = torch.cat([xy - offset[..., :2], xy + offset[..., 2:]], dim=-1)
    return Points(_rows(classes), boxes, _rows(centerness).squeeze(-1), xy, stride)


def centerness_of(xy: Tensor, boxes: Tensor) -> Tensor:
    """FCOS's centerness (eq. 3), 1 in the middle of a box, 0 on its edge.

    xy (K, 2), boxes (K, 4) -> (K,)."""
    near = xy - boxes[:, :2]
    far = boxes[:, 2:] - xy
    ratio = torch.minimum(near, far) / torch.maximum(near, far).clamp(min=1e-6)
    return ratio.clamp(min=0).prod(dim=1).sqrt()


def _grid(feature: Tensor, stride: int) -> Tensor:
    """Centres of a map's cells, (H * W, 2) as x, y."""
    height, width = feature.shape[-2:]
    y = (torch.arange(height, device=feature.device, dtype=torch.float32) + 0.5) * stride
    x = (torch.arange(width, device=feature.device, dtype=torch.float32) + 0.5) * stride
    return torch.stack([x.repeat(height), y.repeat_interleave(width)], dim=1)


def _rows(maps: Sequence[Tensor]) -> Tensor:
    """Maps (N, C, H_i, W_i) -> (N, A, C)."""
    return torch.cat([m.flatten(2).transpose(1, 2) for m in maps], dim=1)
