"""Which points learn which box: dynamic assignment (SimOTA of YOLOX, Ge et al., 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from qatspec_vision.detect.boxes import iou_and_giou
from qatspec_vision.detect.points import Points

#: Cost of a point that a box may not take, and of one that it takes last.
FORBIDDEN, FAR = 1e8, 1e4


class Assigned(NamedTuple):
    """positive (N, A) bool; labels (P,) int64 and boxes (P, 4) of the P positive points, in the
    order of `positive.nonzero()`."""

    positive: Tensor
    labels: Tensor
    boxes: Tensor


class DynamicTarget(nn.Module):
    """Give each box the points that predict it best already.

    Each box takes its k cheapest points, where k is the sum of its `topk` best IoUs, rounded down,
    at least 1. Points that are inside the box and within `center_radius` strides of its centre are
    taken first. A point that several boxes take goes to the cheapest. Of equal costs, the first
    point and the first box win. A box without area takes none.

    A subclass defines which other points may be taken and what a point costs.
    """

    def __init__(self, topk: int, center_radius: float) -> None:
        super().__init__()
        self.topk = topk
        self.center_radius = center_radius

    def allowed(self, inside: Tensor, central: Tensor) -> Tensor:
        """Return which points a box may take, of two bool tensors (M, A): inside the box, and near
        its centre."""
        raise NotImplementedError

    def cost(
        self, logits: Tensor, quality: Tensor, labels: Tensor, iou: Tensor, giou: Tensor
    ) -> Tensor:
        """logits (A, C), quality (A,), labels (M,), iou and giou (M, A), in float64 -> cost (M, A),
        small against FAR."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, points: Points, targets: Sequence[Mapping[str, Tensor]]) -> Assigned:
        """Points and one {boxes (M, 4), labels (M,)} an image -> Assigned."""
        owners = [
            self._owners(points, image, target["boxes"], target["labels"])
            for image, target in enumerate(targets)
        ]
        taken = [owner[owner >= 0] for owner in owners]
        labels = [t["labels"][index] for t, index in zip(targets, taken, strict=True)]
        boxes = [t["boxes"][index] for t, index in zip(targets, taken, strict=True)]
        return Assigned(torch.stack(owners) >= 0, torch.cat(labels), torch.cat(boxes))

    def _owners(self, points: Points, image: int, boxes: Tensor, labels: Tensor) -> Tensor:
        """The box of each point of an image, (A,): its index, or -1 for none."""
        owners = labels.new_full((len(points.xy),), -1)
        inside, central = self._geometry(points, boxes)
        allowed = self.allowed(inside, central) & (boxes[:, 2:] > boxes[:, :2]).all(1)[:, None]
        # Most points are no candidates of any box: nothing is computed for them.
        candidates = allowed.any(0).nonzero().squeeze(1)
        if not len(candidates):
            return owners
        allowed, first = allowed[:, candidates], (inside & central)[:, candidates]

        iou, giou = iou_and_giou(boxes[:, None], points.boxes[image, candidates][None])
        # In float64, so that equal predictions round to equal costs: the last bit of a vectorised
        # function depends on where a number lies in memory.
        logits = points.logits[image, candidates].double()
        quality = points.quality[image, candidates].double()
        cost = self.cost(logits, quality, labels, iou.double(), giou.double()).to(iou.dtype)
        cost = cost + FAR * ~first + FORBIDDEN * ~allowed
        count = min(self.topk, len(candidates))
        k = (iou * allowed).topk(count, dim=1).values.sum(1).int().clamp(1, count)
        matched = _cheapest(cost, k, count) & allowed

        owner = cost.masked_fill(~matched, torch.inf).argmin(dim=0)
        owners[candidates] = torch.where(matched.any(0), owner, -1)
        return owners

    def _geometry(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return two bool tensors (M, A): the point is inside the box; it is near its centre."""
        x, y = points.xy.unbind(1)
        left, top, right, bottom = boxes[:, :, None].unbind(1)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        radius = self.center_radius * points.stride
        across, down = (x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs()
        return inside, (across < radius) & (down < radius)

    def extra_repr(self) -> str:
        return f"topk={self.topk}"


def _cheapest(cost: Tensor, k: Tensor, count: int) -> Tensor:
    """Return which are the k[m] least of each row of cost (M, A), the first ones where several are
    equal; k <= count."""
    # topk itself may choose any of several equal costs; its values are the same whichever it takes.
    least = cost.topk(count, dim=1, largest=False, sorted=True).values
    limit = least.gather(1, k.long()[:, None] - 1)
    below, equal = cost < limit, cost == limit
    return below | (equal & (equal.cumsum(1) <= (k - below.sum(1))[:, None]))
