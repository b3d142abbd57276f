"""YOLOX's boxes: the offset of the centre from a point, and the logarithm of the size."""

from __future__ import annotations

import torch
from torch import Tensor

#: Largest magnitude of a side's logarithm: exp() of it is finite and above zero.
LARGEST_LOG = 10.0


def boxes_of_centers(raw: Tensor, xy: Tensor, stride: Tensor) -> Tensor:
    """x, y of the centre from the point, and log(width), log(height), in strides -> boxes xyxy.

    raw (N, A, 4), xy (A, 2), stride (A, 1) -> (N, A, 4)."""
    center = xy + raw[..., :2] * stride
    half = raw[..., 2:].clamp(-LARGEST_LOG, LARGEST_LOG).exp() * stride / 2
    return torch.cat([center - half, center + half], dim=-1)
