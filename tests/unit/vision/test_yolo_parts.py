"""Each part of YOLO against its definition."""

from typing import Any

import pytest
import torch
from qatspec_vision import params
from qatspec_vision.detect.boxes import ciou, iou_and_giou
from qatspec_vision.yolo.centers import LARGEST_LOG, boxes_of_centers
from qatspec_vision.yolo.csp import SPPF, CSPDarknet, CSPLayer
from qatspec_vision.yolo.decoder import YOLODecoder
from qatspec_vision.yolo.loss import BoxLoss
from qatspec_vision.yolo.pan import PAN
from torch import nn

from qatspec.schema import with_defaults


def decoder(strides: tuple[int, ...], **given: Any) -> YOLODecoder:
    filled: dict[str, Any] = with_defaults(params.YOLO_MODEL["properties"]["decoder"], given)
    return YOLODecoder(strides, **filled)


@pytest.mark.parametrize("strides", [[4], [8, 16, 32], [4, 8, 16], [32, 64]])
def test_backbone_and_neck_keep_their_strides(strides: list[int]) -> None:
    with torch.device("meta"):
        backbone = CSPDarknet(3, 0.125, 0.33, strides, "relu").eval()
        neck = PAN(backbone.channels, 0.33, "relu").eval()
        maps = backbone(torch.empty(1, 3, 128, 192))
        expected = [
            (1, channels, 128 // stride, 192 // stride)
            for channels, stride in zip(backbone.channels, strides, strict=True)
        ]
        assert [tuple(m.shape) for m in maps] == expected
        assert [tuple(m.shape) for m in neck(maps)] == expected


def test_half_of_a_csp_layer_goes_past_the_bottlenecks() -> None:
    layer = CSPLayer(8, 8, repeats=2, residual=False, activation="relu").eval()
    x = torch.randn(1, 8, 4, 4)
    before = layer.past(x)
    for block in layer.blocks:
        nn.init.zeros_(block.conv[0].weight)
    assert torch.equal(layer.leave(torch.cat([torch.zeros_like(before), before], 1)), layer(x))


def test_sppf_is_a_pyramid_of_pools() -> None:
    sppf = SPPF(8, "relu").eval()
    x = torch.randn(1, 8, 20, 20)
    inner = sppf.enter(x)
    pools = [nn.MaxPool2d(k, stride=1, padding=k // 2)(inner) for k in (5, 9, 13)]
    assert torch.equal(sppf(x), sppf.leave(torch.cat([inner, *pools], 1)))


def test_boxes_of_centers_by_hand() -> None:
    raw = torch.tensor([[[0.5, -0.25, 0.0, 2.0**0.5], [0, 0, 1e9, -1e9]]])
    xy, stride = torch.tensor([[4.0, 12.0], [8, 8]]), torch.tensor([[8.0], [16.0]])
    (first, extreme) = boxes_of_centers(raw, xy, stride)[0]
    half = 4 * float(torch.tensor(2.0**0.5).exp())
    torch.testing.assert_close(first, torch.tensor([4.0, 10 - half, 12, 10 + half]))
    assert extreme.isfinite().all()
    assert extreme[2] - extreme[0] == pytest.approx(16 * torch.tensor(LARGEST_LOG).exp().item())


def test_ciou_by_hand() -> None:
    """IoU 1/3, centres 1 apart in a hull of 3 x 2, the same aspect ratio; then another ratio."""
    a, b = torch.tensor([0.0, 0, 2, 2]), torch.tensor([1.0, 0, 3, 2])
    torch.testing.assert_close(ciou(a, b), torch.tensor(1 / 3 - 1 / 13))
    tall = torch.tensor([0.5, 0, 1.5, 2])
    angle = torch.tensor(1.0).atan() - torch.tensor(0.5).atan()
    v = 4 / torch.pi**2 * angle**2
    torch.testing.assert_close(ciou(a, tall), 0.5 - v * v / (0.5 + v))
    torch.testing.assert_close(ciou(a, a), torch.tensor(1.0))


@pytest.mark.parametrize("form", ["giou", "ciou"])
def test_loss_of_boxes(form: str) -> None:
    boxes = torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 2]])
    targets = torch.tensor([[0.0, 0, 2, 2], [1, 0, 3, 3]])
    expected = ciou(boxes, targets) if form == "ciou" else iou_and_giou(boxes, targets)[1]
    torch.testing.assert_close(BoxLoss(form)(boxes, targets), (1 - expected).sum())


@pytest.mark.parametrize("form", ["giou", "ciou"])
@pytest.mark.parametrize("size", [0.0, 1e-4, 1.0, 1e4])
def test_gradients_of_boxes_are_finite(form: str, size: float) -> None:
    """Boxes that are equal, apart, inside one another, of no or a huge size."""
    targets = torch.tensor([[10.0, 10, 12, 14]]).expand(4, 4)
    middle = torch.tensor([[11.0, 12], [500, 500], [11, 12], [11, 11]])
    half = torch.tensor([[1.0, 2], [1, 1], [size, size], [size, 2]])
    boxes = torch.cat([middle - half, middle + half], 1).requires_grad_()
    loss = BoxLoss(form)(boxes, targets)
    loss.backward()
    assert loss.isfinite()
    assert boxes.grad is not None and boxes.grad.isfinite().all()


def test_decoder_decodes_what_was_put_in() -> None:
    classes = [torch.full((1, 3, 4, 4), -9.0), torch.full((1, 3, 2, 2), -9.0)]
    raw = [torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 2, 2)]
    objectness = [torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)]
    classes[0][0, 2, 1, 2] = 2.0
    raw[0][0, :, 1, 2] = torch.tensor([0.5, -0.5, torch.tensor(2.0).log(), 0.0])
    objectness[0][0, 0, 1, 2] = 3.0
    classes[1][0, 0, 1, 1] = 1.0
    raw[1][0, :, 1, 1] = torch.tensor([0.0, 0.0, 9.0, 9.0])
    (found,) = decoder((8, 16))((classes, raw, objectness))
    torch.testing.assert_close(found["boxes"], torch.tensor([[16.0, 4, 32, 12], [0, 0, 32, 32]]))
    assert found["labels"].tolist() == [2, 0]
    logits = torch.tensor([[2.0, 3.0], [1.0, 0.0]])
    torch.testing.assert_close(found["scores"], logits.sigmoid().prod(1))


def test_decoder_takes_what_scores_above_the_threshold() -> None:
    outputs = ([torch.zeros(1, 1, 1, 2)], [torch.zeros(1, 4, 1, 2)], [torch.zeros(1, 1, 1, 2)])
    outputs[2][0][0, 0, 0, 1] = 1.0
    assert len(decoder((8,), score_threshold=0.2)(outputs)[0]["scores"]) == 2
    assert len(decoder((8,), score_threshold=0.25)(outputs)[0]["scores"]) == 1
