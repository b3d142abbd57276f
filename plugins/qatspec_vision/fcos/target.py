"""Which points learn which box: dynamic assignment (SimOTA of YOLOX, Ge et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qatspec_vision.fcos.boxes import iou_and_giou
from qatspec_vision.fcos.points import Points

#: Cost of a point outside a box (never taken), and of one far from its middle (taken last).
FORBIDDEN, FAR = 1e8, 1e4


class Assigned(NamedTuple):
    """positive (N, A) bool; labels (P,) int64 and boxes (P, 4) of the P positive points, in the
    order of `positive.nonzero()`."""

    positive: Tensor
    labels: Tensor
    boxes: Tensor


class DynamicFcosTarget(nn.Module):
    """Give each box the points that predict it best already.

    cost(box, point) = focal loss of the box's class + giou_weight * (1 - GIoU). Each box takes its
    k cheapest points, where k is the sum of its `topk` best IoUs (at least 1); a point that several
    boxes want goes to the cheapest. Only points inside a box are taken (distances cannot be
    negative), those within `center_radius` strides of its middle first.
    """

    def __init__(self, topk: int, giou_weight: float, center_radius: float) -> None:
        super().__init__()
        self.topk = topk
        self.giou_weight = giou_weight
        self.center_radius = center_radius

    @torch.no_grad()
    def forward(self, points: Points, targets: Sequence[Mapping[str, Tensor]]) -> Assigned:
        """Points and one {boxes (M, 4), labels (M,)} an image -> Assigned."""
        labels, boxes, real = _pad(targets)
        if not real.any():
            positive = torch.zeros_like(points.centerness, dtype=torch.bool)
            return Assigned(positive, labels.new_zeros(0), boxes.new_zeros(0, 4))

        iou, giou = iou_and_giou(boxes[:, :, None], points.boxes[:, None])
        inside, central = self._geometry(points, boxes)
        allowed = inside & real[:, :, None]
        cost = self._class_cost(points.logits, labels) + self.giou_weight * (1 - giou)
        cost = cost + FAR * ~central + FORBIDDEN * ~allowed

        count = min(self.topk, iou.shape[2])
        k = (iou * allowed).topk(count, dim=2).values.sum(2).int().clamp(min=1)
        cheapest = cost.topk(count, dim=2, largest=False).indices
        wanted = torch.arange(count, device=k.device) < k[:, :, None]
        matched = torch.zeros_like(allowed).scatter_(2, cheapest, wanted) & allowed

        positive = matched.any(dim=1)
        owner = cost.masked_fill(~matched, torch.inf).argmin(dim=1)
        image, point = positive.nonzero(as_tuple=True)
        box = owner[image, point]
        return Assigned(positive, labels[image, box], boxes[image, box])

    def _geometry(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return two bool tensors (N, M, A): the point is inside the box; it is near its centre."""
        xy = points.xy
        margin = torch.cat([xy - boxes[:, :, None, :2], boxes[:, :, None, 2:] - xy], dim=3)
        middle = (boxes[:, :, :2] + boxes[:, :, 2:]) / 2
        away = (xy - middle[:, :, None]).abs().amax(dim=3)
        return margin.amin(dim=3) > 0, away < self.center_radius * points.stride

    def _class_cost(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Focal loss of calling point a by box m's class: (N, A, C), (N, M) -> (N, M, A)."""
        cost = 0.25 * F.softplus(-logits) * torch.sigmoid(-logits) ** 2
        index = labels[:, :, None].expand(-1, -1, logits.shape[1])
        return cost.transpose(1, 2).gather(1, index)

    def extra_repr(self) -> str:
        return f"topk={self.topk}"


def _pad(targets: Sequence[Mapping[str, Tensor]]) -> tuple[Tensor, Tensor, Tensor]:
    """Targets of a batch -> labels (N, M), boxes (N, M, 4), real (N, M); M is the most of any."""
    pad = nn.utils.rnn.pad_sequence
    labels = pad([t["labels"] for t in targets], batch_first=True)
    boxes = pad([t["boxes"] for t in targets], batch_first=True)
    real = pad([torch.ones_like(t["labels"], dtype=torch.bool) for t in targets], batch_first=True)
    return labels, boxes, real
