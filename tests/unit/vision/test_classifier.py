"""Classifiers: the Lite family, TensorFlow's padding, and models of other libraries."""

import sys
from typing import Any
from urllib.error import URLError

import pytest
import torch
from qatspec_vision import library, params
from qatspec_vision.blocks import VARIANTS
from qatspec_vision.classifier import Classifier, build
from qatspec_vision.efficientnet import MBConv
from qatspec_vision.layers import ConvBn
from torch import nn
from torch.nn import functional as F

from qatspec.api import DiagnosticError
from qatspec.schema import check, with_defaults
from tests.libraries import TRAINED, fake_libraries
from tests.unit.vision.filled import backbone


@pytest.fixture
def lite0() -> nn.Module:
    with torch.device("meta"):
        return build(
            with_defaults(
                params.EFFICIENTNET, {"backbone": {"variant": "lite0", "padding": "same"}}
            )
        )


def test_lite0_has_the_published_size(lite0: nn.Module) -> None:
    """4.65 M parameters (github.com/tensorflow/tpu, efficientnet/lite), in 247 tensors beside the
    batch norms' counters."""
    assert sum(p.numel() for p in lite0.parameters()) / 1e6 == pytest.approx(4.65, abs=0.005)
    tensors = [k for k in lite0.state_dict() if not k.endswith("num_batches_tracked")]
    assert len(tensors) == 247
    kinds = {type(m) for m in lite0.modules()}
    assert nn.ReLU6 in kinds
    assert nn.ReLU not in kinds


@pytest.mark.parametrize(
    ("variant", "millions"), [("lite1", 5.42), ("lite2", 6.09), ("lite3", 8.20), ("lite4", 13.01)]
)
def test_published_sizes_of_the_lite_family(variant: str, millions: float) -> None:
    with torch.device("meta"):
        model = build(with_defaults(params.EFFICIENTNET, {"backbone": {"variant": variant}}))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.01)


def test_lite_scales_neither_stem_nor_first_and_last_repeats() -> None:
    with torch.device("meta"):
        lite4 = backbone(variant="lite4", strides=(32,))
    assert lite4.stem[0].out_channels == 32
    assert [len(stage) for stage in lite4.stages] == [1, 4, 4, 6, 6, 8, 1]


def test_small_variants() -> None:
    with torch.device("meta"):
        tiny, small = (backbone(variant=v, strides=(32,)) for v in ("b0tiny", "b0small"))
    assert tiny.stem[0].out_channels == small.stem[0].out_channels == 16
    units = [sum(isinstance(m, MBConv) for m in net.modules()) for net in (tiny, small)]
    assert units == [10, 16]


@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_is_tensorflows(kernel: int) -> None:
    """TensorFlow's SAME puts the odd one out at the bottom and the right."""
    layer = ConvBn(1, 1, kernel, stride=2, activation=None, pad_as_tensorflow=True).eval()
    conv = next(m for m in layer.modules() if isinstance(m, nn.Conv2d))
    image = torch.randn(1, 1, 8, 12)
    total = kernel - 2  # (ceil(side / 2) - 1) * 2 + kernel - side, for even sides
    low, high = total // 2, total - total // 2
    expected = F.conv2d(F.pad(image, (low, high, low, high)), conv.weight, stride=2)
    found = nn.Sequential(*list(layer)[:-1])(image)
    torch.testing.assert_close(found, expected)
    symmetric = ConvBn(1, 1, kernel, stride=2, activation=None).eval()
    symmetric[0].weight = conv.weight
    assert not torch.allclose(symmetric[0](image), expected)


def test_a_label_beyond_the_classes() -> None:
    with pytest.raises(DiagnosticError, match="label 7"):
        Classifier(nn.Identity()).loss(torch.zeros(1, 7), [{"label": torch.tensor(7)}])


@pytest.mark.parametrize("shape", [(8, 2, 1), (8,)])
def test_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    model, logits = Classifier(nn.Identity()), torch.zeros(shape)
    for ask in (
        lambda: model.loss(logits, [{"label": torch.tensor(0)}] * 8),
        lambda: model.predict(logits),
    ):
        with pytest.raises(DiagnosticError) as caught:
            ask()
        (found,) = caught.value.diagnostics
        assert found.code == "QS929"
        assert str(shape) in found.message and "(N, classes)" in found.message


def test_every_variant_is_a_choice() -> None:
    assert params.EFFICIENTNET["properties"]["backbone"]["properties"]["variant"]["enum"] == sorted(
        VARIANTS
    )


# -- other libraries' models -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("package", "trained"),
    [("torchvision", {"weights": "DEFAULT"}), ("timm", {"pretrained": True})],
)
@pytest.mark.parametrize("classes", [None, TRAINED, 5])
def test_a_model_by_its_name_in_a_library(
    monkeypatch: pytest.MonkeyPatch, package: str, trained: Any, classes: int | None
) -> None:
    """With its published weights, for their classes or others."""
    fake_libraries(monkeypatch)
    schema = {"torchvision": params.TORCHVISION, "timm": params.TIMM}[package]
    wanted = {"name": "tiny", "options": {"drop_rate": 0.1}, **trained}
    wanted |= {} if classes is None else {"num_classes": classes}
    assert check(wanted, schema) == []
    make = getattr(library, f"build_{package}")
    model = make(with_defaults(schema, wanted))
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, classes or TRAINED)
    assert model.net.options["drop_rate"] == 0.1
    assert (model.net[0].weight == 0.25).all()
    bare = make(with_defaults(schema, {"name": "tiny", "num_classes": 5}))
    assert bare(torch.zeros(2, 3, 8, 8)).shape == (2, 5)
    assert not (bare.net[0].weight == 0.25).any()

    with pytest.raises(DiagnosticError, match="does not build `huge`: Unknown model") as caught:
        make(with_defaults(schema, {"name": "huge"}))
    assert caught.value.diagnostics[0].code == "QS917"


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    def offline(name: str, **options: Any) -> nn.Module:
        raise URLError("Name or service not known")

    fake_libraries(monkeypatch)
    function = {"torchvision": "torchvision.models.get_model", "timm": "timm.create_model"}[package]
    monkeypatch.setattr(function, offline)
    schema = {"torchvision": params.TORCHVISION, "timm": params.TIMM}[package]
    with pytest.raises(DiagnosticError, match="cannot fetch the published weights") as caught:
        getattr(library, f"build_{package}")(with_defaults(schema, {"name": "tiny"}))
    assert "solver.weights" in (caught.value.diagnostics[0].help or "")


@pytest.mark.parametrize("package", ["torchvision", "timm"])
def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DiagnosticError) as caught:
        getattr(library, f"build_{package}")({"name": "resnet18"})
    (found,) = caught.value.diagnostics
    assert (found.code, found.help) == ("QS915", f"pip install {package}")
