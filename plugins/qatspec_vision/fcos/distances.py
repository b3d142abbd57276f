"""FCOS's boxes: distances from a point to the sides, and centerness."""

from __future__ import annotations

import torch
from torch import Tensor


def boxes_of_distances(raw: Tensor, xy: Tensor, stride: Tensor) -> Tensor:
    """Distances to left, top, right, bottom, in strides before the ReLU, -> boxes xyxy.

    raw (N, A, 4), xy (A, 2), stride (A, 1) -> (N, A, 4)."""
    offset = raw.relu() * stride
    return torch.cat([xy - offset[..., :2], xy + offset[..., 2:]], dim=-1)


def centerness_of(xy: Tensor, boxes: Tensor) -> Tensor:
    """FCOS's centerness (eq. 3), 1 in the middle of a box, 0 on its edge.

    xy (K, 2), boxes (K, 4) -> (K,)."""
    near = xy - boxes[:, :2]
    far = boxes[:, 2:] - xy
    ratio = torch.minimum(near, far) / torch.maximum(near, far).clamp(min=1e-6)
    return ratio.clamp(min=0).prod(dim=1).sqrt()
