"""Dynamic assignment against a plain reference, for both detectors."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings, strategies as st
from qatspec_vision.detect.assignment import FAR, DynamicTarget
from qatspec_vision.detect.boxes import iou_and_giou
from qatspec_vision.detect.points import Points
from qatspec_vision.fcos.target import DynamicFcosTarget
from qatspec_vision.yolo.target import SimOTATarget
from torch import Tensor
from torch.nn import functional as F

CLASSES = 3
STRIDES = (4, 8)
SIDE = 16
TARGETS: dict[str, DynamicTarget] = {
    "fcos": DynamicFcosTarget(topk=3, giou_weight=2.0, center_radius=1.0),
    "yolo": SimOTATarget(topk=3, iou_weight=3.0, center_radius=1.0),
}


def grid() -> tuple[Tensor, Tensor]:
    """The points of a picture of SIDE x SIDE, and their strides."""
    xy = [
        ((x + 0.5) * s, (y + 0.5) * s)
        for s in STRIDES
        for y in range(SIDE // s)
        for x in range(SIDE // s)
    ]
    stride = [float(s) for s in STRIDES for _ in range((SIDE // s) ** 2)]
    return torch.tensor(xy), torch.tensor(stride)


def slow_owners(
    target: DynamicTarget, points: Points, image: int, boxes: Tensor, labels: Tensor
) -> list[int]:
    """The box of each point, -1 for none: by loops over boxes and points."""
    iou, giou = iou_and_giou(boxes[:, None], points.boxes[image][None])
    logits, quality = points.logits[image].double(), points.quality[image].double()
    cost = target.cost(logits, quality, labels, iou.double(), giou.double()).float()
    wanted: dict[int, list[tuple[float, int]]] = {}
    for m, (left, top, right, bottom) in enumerate(boxes.tolist()):
        rows = []
        for a, ((x, y), stride) in enumerate(
            zip(points.xy.tolist(), points.stride.tolist(), strict=True)
        ):
            inside = left < x < right and top < y < bottom
            away = max(abs(x - (left + right) / 2), abs(y - (top + bottom) / 2))
            central = away < target.center_radius * stride
            may = inside or (central and isinstance(target, SimOTATarget))
            if may and left < right and top < bottom:
                rows.append((float(cost[m, a] + FAR * (not (inside and central))), a))
        overlaps = sorted((float(iou[m, a]) for _, a in rows), reverse=True)[: target.topk]
        count = max(int(sum(overlaps)), 1)
        for price, a in sorted(rows)[:count]:
            wanted.setdefault(a, []).append((price, m))
    return [min(wanted[a])[1] if a in wanted else -1 for a in range(len(points.xy))]


coordinate = st.integers(-8, 48).map(lambda value: value / 2)
box = st.tuples(coordinate, coordinate, coordinate, coordinate)
proper = box.map(lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3])))


@st.composite
def images(draw: Any) -> list[dict[str, Tensor]]:
    """Images without boxes, with many, with equal ones, and with boxes without area."""
    found = []
    for _ in range(draw(st.integers(1, 3))):
        pool = draw(st.lists(proper, min_size=1, max_size=4))
        boxes = draw(st.lists(st.sampled_from(pool), max_size=8))
        labels = draw(
            st.lists(st.integers(0, CLASSES - 1), min_size=len(boxes), max_size=len(boxes))
        )
        found.append(
            {
                "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
                "labels": torch.tensor(labels, dtype=torch.int64),
            }
        )
    return found


@pytest.mark.parametrize("name", TARGETS)
@settings(max_examples=150, deadline=None)
@given(targets=images(), seed=st.integers(0, 10**6), distinct=st.integers(1, 6))
def test_as_the_plain_reference(
    name: str, targets: list[dict[str, Tensor]], seed: int, distinct: int
) -> None:
    """Few distinct predictions make equal costs: the first point wins."""
    generator = torch.Generator().manual_seed(seed)
    xy, stride = grid()
    which = torch.randint(distinct, (len(targets), len(xy)), generator=generator)
    corner = torch.rand(distinct, 2, generator=generator) * SIDE
    boxes = torch.cat([corner, corner + torch.rand(distinct, 2, generator=generator) * SIDE], 1)
    logits = torch.randn(distinct, CLASSES, generator=generator) * 4
    points = Points(
        logits[which], boxes[which], torch.randn(distinct, generator=generator)[which], xy, stride
    )

    assigned = TARGETS[name](points, targets)
    labels, owned = [], []
    for image, target in enumerate(targets):
        owners = slow_owners(TARGETS[name], points, image, **target)
        assert assigned.positive[image].tolist() == [owner >= 0 for owner in owners]
        labels += [int(target["labels"][owner]) for owner in owners if owner >= 0]
        owned += [target["boxes"][owner].tolist() for owner in owners if owner >= 0]
    assert assigned.labels.tolist() == labels
    assert assigned.boxes.tolist() == owned


@pytest.mark.parametrize("name", TARGETS)
def test_equal_predictions_are_equal_wherever_they_lie_in_memory(name: str) -> None:
    """Vectorised functions differ in the last bit between the body and the end of a tensor."""
    xy, stride = grid()
    whole = torch.tensor([0.0, 0, SIDE, SIDE])
    for seed in range(30):
        torch.manual_seed(seed)
        points = Points(
            torch.randn(CLASSES).expand(1, len(xy), CLASSES), whole.expand(1, len(xy), 4),
            torch.randn(1).expand(1, len(xy)), xy, stride,
        )  # fmt: skip
        target = {"boxes": whole[None], "labels": torch.tensor([seed % CLASSES])}
        assigned = TARGETS[name](points, [target])
        central = [a for a, (x, y) in enumerate(xy.tolist())
                   if max(abs(x - 8), abs(y - 8)) < float(stride[a])]  # fmt: skip
        assert assigned.positive[0].nonzero().flatten().tolist() == central[:3], seed


def test_the_first_of_equal_points_and_of_equal_boxes_wins() -> None:
    xy, stride = grid()
    whole = torch.tensor([0.0, 0, SIDE, SIDE])
    points = Points(
        torch.zeros(1, len(xy), CLASSES), whole.expand(1, len(xy), 4), torch.zeros(1, len(xy)),
        xy, stride,
    )  # fmt: skip
    target = {"boxes": torch.stack([whole, whole]), "labels": torch.tensor([2, 1])}
    assigned = SimOTATarget(topk=3, iou_weight=3.0, center_radius=10.0)(points, [target])
    assert assigned.positive[0].nonzero().flatten().tolist() == [0, 1, 2]
    assert assigned.labels.tolist() == [2, 2, 2]


def test_the_cost_of_yolo_is_yoloxs() -> None:
    torch.manual_seed(0)
    logits, quality = torch.randn(5, CLASSES), torch.randn(5)
    labels, iou = torch.tensor([2, 0]), torch.rand(2, 5)
    got = TARGETS["yolo"].cost(logits, quality, labels, iou, iou)
    scores = (logits.sigmoid() * quality.sigmoid()[:, None]).sqrt()
    for m, label in enumerate(labels):
        one_hot = F.one_hot(label.expand(5), CLASSES).float()
        entropy = F.binary_cross_entropy(scores, one_hot, reduction="none").sum(1)
        torch.testing.assert_close(got[m], entropy - 3.0 * (iou[m] + 1e-8).log())


def test_a_certain_score_has_a_finite_cost() -> None:
    certain = torch.tensor([[200.0, -200.0, -200.0]])
    iou = torch.tensor([[1.0], [0.0]])
    cost = TARGETS["yolo"].cost(certain, torch.tensor([200.0]), torch.tensor([0, 1]), iou, iou)
    assert cost.isfinite().all()
    assert cost[0] < cost[1]


def test_yolo_learns_a_box_smaller_than_a_cell() -> None:
    xy, stride = grid()
    target = {"boxes": torch.tensor([[4.2, 4.2, 5.2, 5.2]]), "labels": torch.tensor([1])}
    points = Points(
        torch.zeros(1, len(xy), CLASSES), torch.zeros(1, len(xy), 4), torch.zeros(1, len(xy)),
        xy, stride,
    )  # fmt: skip
    assert int(TARGETS["yolo"](points, [target]).positive.sum()) == 1
    assert not TARGETS["fcos"](points, [target]).positive.any()


@pytest.mark.parametrize("name", TARGETS)
def test_images_that_are_assigned_together_or_apart_get_the_same(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    xy, stride = grid()
    corners = torch.rand(6, len(xy), 4) * SIDE
    boxes = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], dim=-1)
    points = Points(torch.randn(6, len(xy), CLASSES), boxes, torch.randn(6, len(xy)), xy, stride)
    targets = [
        {"boxes": boxes[n, :count], "labels": torch.arange(count) % CLASSES}
        for n, count in enumerate([3, 0, 5, 1, 0, 7])
    ]
    together = TARGETS[name](points, targets)
    for pairs in (1, 8 * len(xy)):
        monkeypatch.setattr("qatspec_vision.detect.assignment._PAIRS", pairs)
        for one, other in zip(together, TARGETS[name](points, targets), strict=True):
            assert torch.equal(one, other)
