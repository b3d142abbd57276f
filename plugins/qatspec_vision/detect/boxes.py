"""Boxes as (..., 4) tensors of x1, y1, x2, y2 in pixels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def iou_and_giou(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Intersection over union, and its generalised form (Rezatofighi et al., CVPR 2019).

    a and b broadcast: (..., 4) -> (...), in 0..1 and -1..1.
    """
    inner = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(
        min=0
    )
    outer = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    intersection = inner[..., 0] * inner[..., 1]
    union = area(a) + area(b) - intersection
    hull = outer[..., 0] * outer[..., 1]
    iou = intersection / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


def ciou(a: Tensor, b: Tensor) -> Tensor:
    """Complete IoU (Zheng et al., AAAI 2020): IoU less the distance of the centres, relative to the
    diagonal of the hull, and less the difference of the aspect ratios.

    a and b broadcast: (..., 4) -> (...), at most 1.
    """
    iou, _ = iou_and_giou(a, b)
    hull = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    apart = (a[..., :2] + a[..., 2:] - b[..., :2] - b[..., 2:]) / 2
    distance = apart.square().sum(-1) / hull.square().sum(-1).clamp(min=1e-6)
    aspect = 4 / math.pi**2 * (_angle(a) - _angle(b)).square()
    with torch.no_grad():  # the paper's alpha is a weight, not a term to learn
        alpha = aspect / (1 - iou + aspect).clamp(min=1e-6)
    return iou - distance - alpha * aspect


def _angle(boxes: Tensor) -> Tensor:
    width, height = (boxes[..., 2:] - boxes[..., :2]).unbind(-1)
    return torch.atan(width / height.clamp(min=1e-6))


def area(boxes: Tensor) -> Tensor:
    """(..., 4) -> (...)."""
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def nms(boxes: Tensor, labels: Tensor, threshold: float, most: int) -> Tensor:
    """Greedy non-maximum suppression within each class.

    boxes (K, 4) and labels (K,), best score first. Returns the indices, ascending, of the first
    `most` boxes that no better box of their class that stays overlaps by more than `threshold`.
    """
    if not len(boxes):
        return labels
    # Classes are moved apart, so that boxes of different ones never overlap.
    apart = boxes + (labels * (boxes.max() - boxes.min() + 1)).to(boxes.dtype)[:, None]
    at_least = torch.promote_types(apart.dtype, torch.float32)  # numpy has no bfloat16
    kept = _greedy(apart.detach().to("cpu", at_least).numpy(), threshold, most)
    return torch.tensor(kept, device=labels.device)


def _greedy(boxes: NDArray[Any], threshold: float, most: int) -> list[int]:
    """Indices of the boxes (K, 4) that stay, best first. In numpy, whose calls on a few numbers
    take a fifth of torch's time; the arithmetic is the same."""
    x, y, right, bottom = boxes.T
    rows = np.stack([x, y, right, bottom, (right - x) * (bottom - y)])
    index = np.arange(len(boxes))
    kept: list[int] = []
    while len(kept) < most and len(index):
        kept.append(int(index[0]))
        best = rows[:, 0]
        sides = np.minimum(rows[2:4], best[2:4, None]) - np.maximum(rows[:2], best[:2, None])
        np.maximum(sides, 0, out=sides)
        overlap = sides[0] * sides[1]
        stays = overlap <= threshold * (rows[4] + best[4] - overlap)
        stays[0] = False
        rows, index = rows[:, stays], index[stays]
    return kept
