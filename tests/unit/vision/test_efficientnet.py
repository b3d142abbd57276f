"""What the block table means, and the building blocks."""

import math

import pytest
import torch
from qatspec_vision.blocks import B_BLOCKS, last_stages, scale_channels
from qatspec_vision.classifier import EfficientNetClassifier, build
from qatspec_vision.efficientnet import MBConv
from qatspec_vision.params import EFFICIENTNET
from torch import nn

from qatspec.schema import with_defaults
from tests.unit.vision.filled import backbone


def test_five_maps_of_b0() -> None:
    with torch.device("meta"):
        net = backbone(strides=(2, 4, 8, 16, 32))
        maps = net(torch.empty(2, 3, 64, 96))
    assert net.channels == [16, 24, 40, 112, 320]
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 32, 48), (2, 24, 16, 24), (2, 40, 8, 12), (2, 112, 4, 6), (2, 320, 2, 3)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "channels"), [("b2", [16, 24, 48, 120, 352]), ("b3", [24, 32, 48, 136, 384])]
)
def test_channels_of_the_wider_members(variant: str, channels: list[int]) -> None:
    with torch.device("meta"):
        assert backbone(variant=variant, strides=(2, 4, 8, 16, 32)).channels == channels


def test_only_relu_and_no_attention() -> None:
    kinds = {type(m) for m in backbone().modules()}
    assert not kinds & {nn.SiLU, nn.Sigmoid, nn.AdaptiveAvgPool2d}
    assert nn.ReLU in kinds


def test_explicit_blocks_stop_at_the_last_stride() -> None:
    blocks = [
        {"kernel": 3, "repeats": 1, "channels": 16, "expand": 2, "stride": 2},
        {"kernel": 5, "repeats": 2, "channels": 24, "expand": 2, "stride": 2},
        {"kernel": 3, "repeats": 1, "channels": 99, "expand": 2, "stride": 2},
    ]
    net = backbone(blocks=blocks, stem=8, depth=1.5, strides=(4, 8))
    assert net.channels == [16, 24]
    assert [len(stage) for stage in net.stages] == [2, 3]  # type: ignore[arg-type]


def test_a_stride_without_a_stage_is_refused() -> None:
    with pytest.raises(ValueError, match="stride 64"):
        backbone(strides=(8, 64))


def test_residual_only_where_shapes_agree() -> None:
    block = MBConv(8, 8, 3, 2, 1, "relu").eval()
    x = torch.randn(1, 8, 4, 4)
    torch.testing.assert_close(
        block(x),
        x + block.project(block.depthwise(block.expand(x))),  # type: ignore[misc]
    )
    assert not MBConv(8, 16, 3, 2, 1, "relu").residual
    assert not MBConv(8, 8, 3, 2, 2, "relu").residual


@pytest.mark.parametrize(
    ("channels", "width", "scaled"), [(32, 1.1, 32), (24, 1.2, 32), (8, 0.25, 8)]
)
def test_scaled_channels(channels: int, width: float, scaled: int) -> None:
    assert scale_channels(channels, width) == scaled


def test_last_stages_of_the_family() -> None:
    assert last_stages(B_BLOCKS) == {2: 0, 4: 1, 8: 2, 16: 4, 32: 6}


def test_classifier_learns_and_predicts() -> None:
    torch.manual_seed(0)
    block = {"kernel": 3, "repeats": 1, "channels": 16, "expand": 1, "stride": 1}
    blocks = [block, *({**block, "stride": 2} for _ in range(4))]
    small = {"num_classes": 3, "backbone": {"blocks": blocks, "stem": 8}, "features": 32}
    model = build(with_defaults(EFFICIENTNET, {**small, "dropout": 0}))
    assert isinstance(model, EfficientNetClassifier)
    images = torch.randn(6, 3, 64, 64)
    targets = [{"label": torch.tensor(index % 3)} for index in range(6)]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(8):
        loss = model.loss(model(images), targets)["cls"]
        losses.append(float(loss.detach()))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(math.log(3), abs=0.1)
    assert losses[-1] < 0.7 * losses[0]
    for prediction in model.predict(model(images).detach()):
        assert float(prediction["scores"].sum()) == pytest.approx(1, abs=1e-5)
        assert int(prediction["label"]) == int(prediction["scores"].argmax())
