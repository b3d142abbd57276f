"""Each part of FCOS against its definition."""

import numpy as np
import pytest
import torch
from qatspec_vision.detect.boxes import iou_and_giou, nms
from qatspec_vision.detect.points import Points, gather_points
from qatspec_vision.fcos.bifpn import BiFPN, BiFPNLayer
from qatspec_vision.fcos.decoder import FCOSDecoder
from qatspec_vision.fcos.distances import boxes_of_distances, centerness_of
from qatspec_vision.fcos.head import FCOSHead
from qatspec_vision.fcos.loss import CenternessLoss, FocalLoss, GIoULoss
from qatspec_vision.fcos.target import DynamicFcosTarget
from torch import Tensor, nn
from torch.nn import functional as F

from tests.unit.vision.filled import fcos


def macs(module: nn.Module, maps: list[Tensor]) -> int:
    total = 0

    def count(conv: nn.Conv2d, _: object, output: Tensor) -> None:
        nonlocal total
        total += output[0].numel() * conv.weight[0].numel()

    for child in module.modules():
        if isinstance(child, nn.Conv2d):
            child.register_forward_hook(count)
    module(maps)
    return total


@pytest.mark.parametrize(
    ("channels", "size", "giga_macs"), [(64, 512, 0.47), (112, 768, 2.38), (120, 896, 3.60)]
)
def test_published_head_sizes(channels: int, size: int, giga_macs: float) -> None:
    with torch.device("meta"):
        head = FCOSHead(80, channels, channels, convs=4, levels=5)
        maps = [torch.empty(1, channels, size // s, size // s) for s in (8, 16, 32, 64, 128)]
    assert macs(head, maps) / 1e9 == pytest.approx(giga_macs, abs=0.005)


def test_head_shares_convolutions_and_not_norms() -> None:
    head = FCOSHead(3, 8, 8, convs=2, levels=5)
    calls: dict[str, int] = {}

    def count(name: str) -> None:
        module = head.get_submodule(name)
        calls[name] = 0

        def hook(*_: object) -> None:
            calls[name] += 1

        module.register_forward_hook(hook)

    for name, module in head.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
            count(name)
    classes, distances, centerness = head([torch.randn(2, 8, 2**k, 2**k) for k in (4, 3, 2, 1, 0)])
    assert set(calls.values()) == {1, 5}
    assert all((5 if "conv" in name else 1) == n for name, n in calls.items())
    assert [m.shape[1] for m in (*classes, *distances, *centerness)] == [3] * 5 + [4] * 5 + [1] * 5


def test_bifpn_layer_is_the_plain_sum() -> None:
    layer = BiFPNLayer(4, levels=3).eval()
    a, b, c = (torch.randn(1, 4, 2**k, 2**k) for k in (3, 2, 1))
    up, down = layer.up, layer.down
    mid = layer.top_down[1](b + up(c))
    fine = layer.top_down[0](a + up(mid))
    middle = layer.bottom_up[0](b + mid + down(fine))
    coarse = layer.bottom_up[1](c + down(middle))
    for got, expected in zip(layer([a, b, c]), (fine, middle, coarse), strict=True):
        torch.testing.assert_close(got, expected)


def test_bifpn_makes_the_missing_levels() -> None:
    neck = BiFPN([3, 5], channels=8, stacks=2, levels=4)
    outputs = neck([torch.randn(1, 3, 16, 24), torch.randn(1, 5, 8, 12)])
    assert [tuple(o.shape) for o in outputs] == [
        (1, 8, 16, 24), (1, 8, 8, 12), (1, 8, 4, 6), (1, 8, 2, 3)
    ]  # fmt: skip
    with pytest.raises(ValueError, match="do not fit"):
        BiFPN([3, 5, 7], **fcos("neck", levels=2))


def test_iou_and_giou_by_hand() -> None:
    a = torch.tensor([0.0, 0, 2, 2])
    b = torch.tensor([[1.0, 0, 3, 2], [0, 0, 2, 2], [4, 0, 6, 2]])
    iou, giou = iou_and_giou(a, b)
    torch.testing.assert_close(iou, torch.tensor([1 / 3, 1, 0]))
    torch.testing.assert_close(giou, torch.tensor([1 / 3, 1, -(12 - 8) / 12]))


def slow_nms(boxes: Tensor, labels: Tensor, threshold: float, most: int) -> list[int]:
    kept: list[int] = []
    for index in range(len(boxes)):
        clear = all(
            labels[index] != labels[other]
            or iou_and_giou(boxes[index], boxes[other])[0] <= threshold
            for other in kept
        )
        if clear and len(kept) < most:
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("most", [5, 100])
def test_nms_is_greedy_within_classes(most: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat([corner, corner + 5 + torch.rand(60, 2, generator=generator) * 20], 1)
    boxes[10:13], boxes[20, 2:] = boxes[9], boxes[20, :2]  # equal ones, and one without area
    labels = torch.randint(3, (60,), generator=generator)
    kept = nms(boxes, labels, 0.5, most)
    assert kept.tolist() == slow_nms(boxes, labels, 0.5, most)
    assert len(kept) < 60
    assert nms(boxes[:0], labels[:0], 0.5, most).tolist() == []


def test_points_are_cell_centres_with_relu_and_stride() -> None:
    classes = [torch.zeros(1, 2, 1, 2), torch.zeros(1, 2, 1, 1)]
    distances = [
        torch.tensor([[[[1.0, 0.5]], [[-3.0, 0.5]], [[2.0, 0.5]], [[0.5, 0.5]]]]),
        torch.ones(1, 4, 1, 1),
    ]
    centerness = [torch.tensor([[[[7.0, 8.0]]]]), torch.tensor([[[[9.0]]]])]
    points = gather_points((classes, distances, centerness), (8, 16), boxes_of_distances)
    assert points.xy.tolist() == [[4, 4], [12, 4], [8, 8]]
    assert points.stride.tolist() == [8, 8, 16]
    assert points.boxes[0].tolist() == [[-4, 4, 20, 8], [8, 0, 16, 8], [-8, -8, 24, 24]]
    assert points.quality.tolist() == [[7, 8, 9]]


def test_centerness_by_hand() -> None:
    box = torch.tensor([[0.0, 0, 8, 8]]).expand(3, 4)
    xy = torch.tensor([[4.0, 4], [2, 4], [0, 4]])
    torch.testing.assert_close(centerness_of(xy, box), torch.tensor([1, (2 / 6) ** 0.5, 0]))


def test_focal_loss_by_definition() -> None:
    logits, targets = torch.randn(5, 4), torch.eye(5, 4)
    p = logits.sigmoid()
    expected = -(
        0.25 * targets * (1 - p) ** 2 * p.log() + 0.75 * (1 - targets) * p**2 * (1 - p).log()
    ).sum()
    torch.testing.assert_close(FocalLoss(0.25, 2.0)(logits, targets), expected)
    plain = FocalLoss(alpha=0.5, gamma=0.0)(logits, targets)
    torch.testing.assert_close(
        plain, 0.5 * F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
    )


def test_giou_and_centerness_losses() -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
    targets = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 2]])
    loss = GIoULoss()(boxes, targets, torch.tensor([5.0, 3.0]))
    torch.testing.assert_close(loss, torch.tensor(3.0 * 2 / 3))
    assert float(CenternessLoss()(torch.tensor([0.0]), torch.tensor([0.3]))) == pytest.approx(
        np.log(2)
    )


def make_points(boxes: Tensor, stride: float = 8.0, side: int = 4, classes: int = 2) -> Points:
    """A grid of side x side points that all predict `boxes` (A, 4) and no class in particular."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    xy = (torch.stack([x.flatten(), y.flatten()], 1) + 0.5) * stride
    count = side * side
    return Points(
        torch.zeros(1, count, classes), boxes.expand(count, 4)[None], torch.zeros(1, count),
        xy, torch.full((count,), stride),
    )  # fmt: skip


def test_target_takes_as_many_points_as_their_ious_say() -> None:
    box = torch.tensor([0.0, 0, 32, 32])
    target = [{"boxes": box[None], "labels": torch.tensor([1])}]
    perfect = DynamicFcosTarget(**fcos("target", topk=10))(make_points(box), target)
    assert int(perfect.positive.sum()) == 10
    assert perfect.labels.tolist() == [1] * 10
    assert perfect.boxes.tolist() == [box.tolist()] * 10

    poor = DynamicFcosTarget(**fcos("target", topk=10))(
        make_points(torch.tensor([0.0, 0, 8, 8])), target
    )
    assert int(poor.positive.sum()) == 1
    assert (
        int(DynamicFcosTarget(**fcos("target", topk=3))(make_points(box), target).positive.sum())
        == 3
    )


def test_target_prefers_the_middle_and_stays_inside() -> None:
    box = torch.tensor([0.0, 0, 17, 17])
    points = make_points(box)
    assigned = DynamicFcosTarget(**fcos("target", center_radius=0.6))(
        points, [{"boxes": box[None], "labels": torch.tensor([0])}]
    )
    chosen = points.xy[assigned.positive[0]]
    assert (chosen < 17).all()
    assert len(chosen) == 4
    one = DynamicFcosTarget(**fcos("target", topk=1, center_radius=0.6))(
        points, [{"boxes": torch.tensor([[0.0, 0, 24, 24]]), "labels": torch.tensor([0])}]
    )
    assert points.xy[one.positive[0]].tolist() == [[12, 12]]


def test_target_gives_a_contested_point_to_the_cheaper_box() -> None:
    wide, narrow = torch.tensor([0.0, 0, 32, 32]), torch.tensor([8.0, 8, 24, 24])
    points = make_points(narrow)
    target = [{"boxes": torch.stack([wide, narrow]), "labels": torch.tensor([0, 1])}]
    assigned = DynamicFcosTarget(**fcos("target", topk=4, center_radius=1.0))(points, target)
    owners = dict(
        zip(
            assigned.positive[0].nonzero().flatten().tolist(), assigned.labels.tolist(), strict=True
        )
    )
    assert owners == {5: 1, 6: 1, 9: 1, 10: 1}


def test_target_of_a_batch_is_that_of_its_images() -> None:
    torch.manual_seed(0)
    several = make_points(torch.tensor([0.0, 0, 20, 20]))
    targets = [
        {"boxes": torch.tensor([[0.0, 0, 30, 30]]), "labels": torch.tensor([1])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
        {"boxes": torch.tensor([[0.0, 0, 9, 9], [16, 16, 31, 31]]), "labels": torch.tensor([0, 1])},
    ]
    batch = several._replace(
        logits=several.logits.expand(3, -1, -1), boxes=several.boxes.expand(3, -1, -1),
        quality=several.quality.expand(3, -1),
    )  # fmt: skip
    assign = DynamicFcosTarget(**fcos("target"))
    together = assign(batch, targets)
    alone = [assign(several, [target]) for target in targets]
    assert together.positive.tolist() == [a.positive[0].tolist() for a in alone]
    assert together.labels.tolist() == [label for a in alone for label in a.labels.tolist()]
    assert not together.positive[1].any()


def test_decoder_decodes_what_was_put_in() -> None:
    classes = [torch.full((1, 3, 4, 4), -9.0)]
    distances, centerness = [torch.zeros(1, 4, 4, 4)], [torch.zeros(1, 1, 4, 4)]
    classes[0][0, 2, 1, 2] = 2.0
    distances[0][0, :, 1, 2] = torch.tensor([1.0, 0.5, 9.0, 2.0])
    centerness[0][0, 0, 1, 2] = 3.0
    (found,) = FCOSDecoder((8,), **fcos("decoder"))((classes, distances, centerness))
    assert found["boxes"].tolist() == [[12, 8, 32, 28]]
    assert found["labels"].tolist() == [2]
    expected = (torch.sigmoid(torch.tensor(2.0)) * torch.sigmoid(torch.tensor(3.0))).sqrt()
    torch.testing.assert_close(found["scores"], expected[None])


def test_decoder_bounds_and_order() -> None:
    torch.manual_seed(0)
    outputs = (
        [torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)],
        [torch.rand(2, 4, 8, 8) * 3, torch.rand(2, 4, 4, 4) * 3],
        [torch.randn(2, 1, 8, 8), torch.randn(2, 1, 4, 4)],
    )
    decoder = FCOSDecoder(
        (8, 16), **fcos("decoder", score_threshold=0.3, nms_pre=20, max_detections=7)
    )
    for found in decoder(outputs):
        assert len(found["scores"]) == 7
        assert (found["scores"].diff() <= 0).all()
        assert found["boxes"].min() >= 0
        assert found["boxes"].max() <= 64
    nothing = FCOSDecoder((8, 16), **fcos("decoder", score_threshold=1.0))(outputs)
    assert [tuple(n["boxes"].shape) for n in nothing] == [(0, 4), (0, 4)]
