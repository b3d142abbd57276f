"""DeepLabV3+: shapes, what ships and what does not, the loss, and integers of a small one."""

import numpy as np
import pytest
import torch
from qatspec_vision import params
from qatspec_vision.deeplab.aspp import ASPP
from qatspec_vision.deeplab.decoder import SegmentationDecoder
from qatspec_vision.deeplab.loss import SegmentationLoss
from qatspec_vision.deeplab.model import DeepLabV3Plus, build
from torch import nn
from torch.nn import functional as F

from qatspec.api import DiagnosticError, lower, prepare, set_stage
from qatspec.schema import check, with_defaults

SMALL = {"num_classes": 4, "backbone": {"variant": "m0", "width": 0.25, "depth": 0.3},
         "head": {"channels": 16}, "auxiliary": {"channels": 8}}  # fmt: skip
MODULES = {
    "backbone": {},
    "decode_head": {"quantize_input": False, "quantize_output": False},
}


@pytest.fixture
def model() -> DeepLabV3Plus:
    torch.manual_seed(0)
    return build(with_defaults(params.DEEPLABV3PLUS, SMALL))


def test_the_params_schema_takes_and_fills_them() -> None:
    assert check(SMALL, params.DEEPLABV3PLUS) == []
    full = with_defaults(params.DEEPLABV3PLUS, {})
    assert (full["num_classes"], full["backbone"]["variant"]) == (19, "m0")
    assert full["head"]["dilations"] == [1, 2, 4, 4]


def test_auxiliary_heads_run_in_training_alone(model: DeepLabV3Plus) -> None:
    images = torch.randn(2, 3, 64, 96)
    logits, *auxiliary = model.train()(images)
    assert logits.shape == (2, 4, 8, 12)
    assert [tuple(a.shape) for a in auxiliary] == [(2, 4, 8, 12), (2, 4, 4, 6)]
    assert model.eval()(images).shape == (2, 4, 8, 12)


def test_no_auxiliary_heads_at_weight_zero() -> None:
    small = build(with_defaults(params.DEEPLABV3PLUS, {**SMALL, "auxiliary": {"weight": 0}}))
    assert len(small.auxiliary_heads) == 0
    assert set(small.loss(small(torch.randn(2, 3, 64, 64)), _targets())) == {"segmentation"}


def test_losses_are_weighted_and_train_everything(model: DeepLabV3Plus) -> None:
    outputs = model.train()(torch.randn(2, 3, 64, 64))
    losses = model.loss(outputs, _targets())
    assert list(losses) == ["segmentation", "auxiliary_0", "auxiliary_1"]
    plain = model.segmentation_loss(outputs[1], torch.stack([t["mask"] for t in _targets()]))
    torch.testing.assert_close(losses["auxiliary_0"], 0.4 * plain)
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_label_beyond_the_classes(model: DeepLabV3Plus) -> None:
    with pytest.raises(DiagnosticError, match="label 4") as caught:
        model.loss([torch.zeros(1, 4, 8, 8)], [{"mask": torch.full((64, 64), 4)}])
    assert caught.value.diagnostics[0].code == "QS914"


def test_loss_is_the_mean_over_pixels_that_count() -> None:
    logits = torch.randn(1, 3, 4, 4)
    labels = torch.full((1, 8, 8), 255)
    labels[0, 2:6, 1:7] = torch.randint(3, (4, 6))
    enlarged = F.interpolate(logits, size=(8, 8), mode="bilinear")
    expected = F.cross_entropy(enlarged, labels, ignore_index=255)
    torch.testing.assert_close(SegmentationLoss(255)(logits, labels), expected)


def test_loss_of_nothing_is_zero_and_not_nan() -> None:
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    loss = SegmentationLoss(255)(logits, torch.full((1, 4, 4), 255))
    loss.backward()
    assert loss == 0
    assert torch.isfinite(logits.grad).all()


def test_the_decoder_gives_the_best_class_of_each_pixel() -> None:
    logits = torch.zeros(2, 3, 2, 2)
    logits[0, 2, :, 1] = 5.0
    logits[1, 1] = 1.0
    first, second = SegmentationDecoder(stride=4)(logits)
    assert first["mask"].dtype == torch.uint8
    assert first["mask"].tolist() == [[0] * 2 + [2] * 6] * 8
    assert (second["mask"] == 1).all()


def test_the_pyramid_sees_as_far_as_its_dilations_say() -> None:
    pyramid = ASPP(2, 4, dilations=(1, 2, 4, 4), repeats=(1, 1, 1, 2)).eval()
    reach = []
    for branch in pyramid.branches:
        image = torch.zeros(1, 2, 33, 33, requires_grad=True)
        for conv in (m for m in branch.modules() if isinstance(m, nn.Conv2d)):
            nn.init.ones_(conv.weight)
        with torch.no_grad():
            for norm in (m for m in branch.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.bias.fill_(1.0)
        branch(image)[0, 0, 16, 16].backward()
        seen = image.grad[0, 0].nonzero()[:, 0]
        reach.append(int(seen.max() - seen.min()) // 2)
    assert reach == [0, 2, 4, 8]


def test_integers_of_the_deployed_model(model: DeepLabV3Plus) -> None:
    """Backbone and head quantized, the auxiliary heads in float and gone from what ships; the last
    convolution leaves its sums."""
    images = torch.randn(2, 3, 64, 64).clamp(-1, 1)
    prepared = prepare(
        model, (images,), qconfig="horizon_calibration", prepare="horizon", modules=MODULES,
        march="bayes",
    )  # fmt: skip
    with torch.no_grad():
        prepared.model(images)
    assert not any("fake" in type(m).__name__.lower() for m in model.auxiliary_heads.modules())
    set_stage(prepared, "eval")
    program = lower(prepared, (images,))
    (port,) = program.outputs
    assert (port.shape, port.dtype) == ((4, 8, 8), "int32")
    assert not any(op.origin.module.startswith("auxiliary_heads") for op in program.ops)

    with torch.no_grad():
        expected = prepared.model(images)
    (found,) = program.dequantize(program.run(*program.quantize(images.numpy())))
    error = np.abs(found - expected.numpy())
    assert np.median(error) <= 0.02 * expected.abs().max().item()


def test_it_takes_another_size_than_it_was_prepared_with(model: DeepLabV3Plus) -> None:
    prepared = prepare(
        model, (torch.zeros(2, 3, 64, 64),), qconfig="horizon_qat", prepare="horizon",
        modules=MODULES,
    )  # fmt: skip
    set_stage(prepared, "qat")
    logits, *_ = prepared.model(torch.randn(2, 3, 96, 32))
    assert logits.shape == (2, 4, 12, 4)


def _targets() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"mask": torch.randint(4, (64, 64), generator=generator)} for _ in range(2)]
