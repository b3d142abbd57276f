"""Which points learn which box: dynamic assignment (SimOTA of YOLOX, Ge et al., 2021)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from qatspec_vision.detect.boxes import iou_and_giou
from qatspec_vision.detect.points import Points

#: Cost of a point that a box may not take, and of one that it takes last.
FORBIDDEN, FAR = 1e8, 1e4
#: Pairs of a box and a point for which costs are computed at the same time.
_PAIRS = 1 << 20


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
        """Return which points a box may take, of two bool tensors (N, M, A): inside the box, and
        near its centre."""
        raise NotImplementedError

    def cost(
        self, logits: Tensor, quality: Tensor, labels: Tensor, iou: Tensor, giou: Tensor
    ) -> Tensor:
        """logits (..., A, C), quality (..., A), labels (..., M), iou and giou (..., M, A), in
        float64 -> cost (..., M, A), small against FAR."""
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, points: Points, targets: Sequence[Mapping[str, Tensor]]) -> Assigned:
        """Points and one {boxes (M, 4), labels (M,)} an image -> Assigned."""
        counts = [len(target["labels"]) for target in targets]
        owners: list[Tensor] = []
        for start, end in _batches(counts, len(points.xy)):
            # A box of zeros, which has no area, stands where an image has fewer boxes than others.
            boxes = pad_sequence([t["boxes"] for t in targets[start:end]], batch_first=True)
            labels = pad_sequence([t["labels"] for t in targets[start:end]], batch_first=True)
            owners += self._owners(points.images(start, end), boxes, labels)
        taken = [owner[owner >= 0] for owner in owners]
        labels_taken = [t["labels"][index] for t, index in zip(targets, taken, strict=True)]
        boxes_taken = [t["boxes"][index] for t, index in zip(targets, taken, strict=True)]
        return Assigned(torch.stack(owners) >= 0, torch.cat(labels_taken), torch.cat(boxes_taken))

    def _owners(self, points: Points, boxes: Tensor, labels: Tensor) -> Tensor:
        """The box of each point, (N, A): its index, or -1 for none. boxes (N, M, 4), labels
        (N, M)."""
        owners = labels.new_full((len(boxes), len(points.xy)), -1)
        inside, central = self._geometry(points, boxes)
        allowed = self.allowed(inside, central)
        allowed &= (boxes[..., 2:] > boxes[..., :2]).all(-1)[..., None]
        # Most points are no candidates of any box: nothing is computed for them.
        image, point = allowed.any(1).nonzero(as_tuple=True)
        if not len(image):
            return owners
        counts = torch.bincount(image, minlength=len(boxes))
        numbers = torch.arange(int(counts.max()), device=counts.device)
        there = numbers < counts[:, None]  # (N, K): of the candidates of an image
        candidates = torch.zeros_like(there, dtype=torch.int64)
        candidates[there] = point
        rows = candidates[:, None].expand(-1, boxes.shape[1], -1)
        allowed = allowed.gather(2, rows) & there[:, None]
        first = (inside & central).gather(2, rows)

        iou, giou = iou_and_giou(boxes[:, :, None], _at(points.boxes, candidates)[:, None])
        # In float64, so that equal predictions round to equal costs: the last bit of a vectorised
        # function depends on where a number lies in memory.
        logits = _at(points.logits, candidates).double()
        quality = points.quality.gather(1, candidates).double()
        cost = self.cost(logits, quality, labels, iou.double(), giou.double()).to(iou.dtype)
        cost = cost + FAR * ~first + FORBIDDEN * ~allowed
        cost = cost.masked_fill(~there[:, None], torch.inf)
        most = min(self.topk, len(numbers))
        k = (iou * allowed).topk(most, dim=2).values.sum(2).int().clamp(min=1)
        matched = _cheapest(cost, k.minimum(counts.clamp(1, most)[:, None]), most) & allowed

        # The first of several least ones, as argmin gives it in seven times the time.
        owner = cost.masked_fill(~matched, torch.inf).min(dim=1).indices
        owners[image, point] = torch.where(matched.any(1), owner, -1)[there]
        return owners

    def _geometry(self, points: Points, boxes: Tensor) -> tuple[Tensor, Tensor]:
        """Return two bool tensors (N, M, A): the point is inside the box; it is near its centre."""
        x, y = points.xy.unbind(1)
        left, top, right, bottom = boxes[..., None].unbind(2)
        inside = (x > left) & (x < right) & (y > top) & (y < bottom)
        radius = self.center_radius * points.stride
        across, down = (x - (left + right) / 2).abs(), (y - (top + bottom) / 2).abs()
        return inside, (across < radius) & (down < radius)

    def extra_repr(self) -> str:
        return f"topk={self.topk}"


def _batches(counts: Sequence[int], points: int) -> Iterator[tuple[int, int]]:
    """Ranges of images that are assigned together: with so many pairs of a box and a point at most,
    or a single image."""
    start = 0
    for end in range(1, len(counts) + 1):
        if end == len(counts) or (end + 1 - start) * max(counts[start : end + 1]) * points > _PAIRS:
            yield start, end
            start = end


def _at(values: Tensor, index: Tensor) -> Tensor:
    """values (N, A, C), index (N, K) -> (N, K, C)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def of_labels(values: Tensor, labels: Tensor) -> Tensor:
    """The numbers of each box's class: values (..., A, C), labels (..., M) -> (..., M, A)."""
    return torch.take_along_dim(values.transpose(-1, -2), labels[..., None], dim=-2)


def _cheapest(cost: Tensor, k: Tensor, count: int) -> Tensor:
    """Return which are the k[..., m] least of each row of cost (..., M, A), the first ones where
    several are equal; k <= count."""
    # topk itself may choose any of several equal costs; its values are the same whichever it takes.
    least = cost.topk(count, dim=-1, largest=False, sorted=True).values
    limit = least.gather(-1, k.long()[..., None] - 1)
    below, equal = cost < limit, cost == limit
    return below | (equal & (equal.cumsum(-1) <= (k - below.sum(-1))[..., None]))
