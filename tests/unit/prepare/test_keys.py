"""Each key of `prepare`: what it does, with a test that fails where it is ignored."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.graph.module import TracedModule
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantConv2d
from qatspec.types import QConfig, QSpec
from tests.unit.prepare.conftest import INT8, image

INT16 = QConfig(activation=QSpec(dtype="qint16"), weight=QSpec(dtype="qint16", ch_axis=0))


class Dynamic(nn.Module):
    """Untraceable, with a conv inside."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if x.sum() > 0 else self.conv(-x)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).relu()


def steps_of(x: Tensor) -> Tensor:
    return x / 2 if x.max() > 1 else x


class Net(nn.Module):
    def __init__(self, middle: nn.Module) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.middle = middle
        self.last = nn.Conv2d(4, 2, 1)
        self.labels = ["a"]

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)))


@pytest.mark.parametrize(
    "config",
    [
        {"non_traceable_module_name": ["middle"]},
        {"non_traceable_module_class": [Dynamic]},
    ],
)
def test_non_traceable_modules_stay_as_they_are_and_their_surroundings_are_quantized(
    config: dict,
) -> None:
    with pytest.raises(DiagnosticError, match="a condition depends on the numbers"):
        prepare(Net(Dynamic()), (image(),), qconfig=INT8)
    prepared = prepare(Net(Dynamic()), (image(),), qconfig=INT8, prepare=config)
    assert type(prepared.model.middle) is Dynamic
    assert type(prepared.model.middle.conv) is nn.Conv2d
    assert isinstance(prepared.model.first, QuantConv2d)
    assert isinstance(prepared.model.middle_activation_post_process_0, FakeQuantize)
    prepared.model(image())
    set_stage(prepared, "eval")
    assert prepared.model(image()).shape == (2, 2, 8, 8)


@pytest.mark.parametrize("key", ["standalone_module_name", "standalone_module_class"])
@pytest.mark.parametrize("own", [False, True])
def test_standalone_modules_are_units_of_their_own(key: str, own: bool) -> None:
    item = {"name": "middle"} if key.endswith("name") else {"class": Block}
    if own:
        item["qconfig"] = {"": INT16}
    net = Net(Block()).eval()
    prepared = prepare(net, (image(),), qconfig=INT8, prepare={key: [item]})
    middle = prepared.model.middle
    assert isinstance(middle, TracedModule)
    assert middle.conv.weight_fake_quant.qspec.dtype == ("qint16" if own else "qint8")
    assert isinstance(middle.conv_activation_post_process_0, FakeQuantize)
    assert "middle:conv" in prepared.decisions
    # quantized once on the way in, by the module around it
    assert not hasattr(middle, "x_activation_post_process_0")
    assert not hasattr(prepared.model, "middle_activation_post_process_0")
    torch.testing.assert_close(prepared.model(image()), net(image()))
    set_stage(prepared, "qat")
    prepared.model(image()).sum().backward()


def test_a_standalone_module_in_a_float_net_quantizes_its_own_input() -> None:
    prepared = prepare(
        Net(Block()),
        (image(),),
        qconfig={"module_name": {"nothing": None}},
        prepare={"standalone_module_name": [{"name": "middle", "qconfig": {"": INT8}}]},
    )
    assert isinstance(prepared.model.middle.x_activation_post_process_0, FakeQuantize)
    assert type(prepared.model.first) is nn.Conv2d


def test_preserved_attributes_are_kept_and_must_exist() -> None:
    kept, lost = ({"preserved_attributes": [name]} for name in ("labels", "lables"))
    prepared = prepare(Net(Block()), (image(),), qconfig=INT8, prepare=kept)
    assert prepared.model.labels == ["a"]
    with pytest.raises(DiagnosticError, match="lables"):
        prepare(Net(Block()), (image(),), qconfig=INT8, prepare=lost)


class Wrapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return steps_of(x)


@pytest.mark.parametrize("name", [steps_of, "steps_of", f"{__name__}.steps_of"])
def test_wrapped_functions_are_not_entered(name: object) -> None:
    with pytest.raises(DiagnosticError):
        prepare(Net(Wrapped()), (image(),), qconfig=INT8)
    prepared = prepare(Net(Wrapped()), (image(),), qconfig=INT8, prepare={"wrap": [name, "len"]})
    prepared.model(image())
    assert any(n.target is steps_of for n in prepared.model.graph.nodes)


def test_a_wrap_that_is_not_there() -> None:
    with pytest.raises(DiagnosticError, match="steps_off"):
        prepare(Net(Wrapped()), (image(),), qconfig=INT8, prepare={"wrap": ["steps_off"]})


class TwoIn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.a(x), self.b(y)


def test_inputs_and_outputs_by_position() -> None:
    config = {"input_quantized_idxs": [1], "output_quantized_idxs": [0]}
    prepared = prepare(
        TwoIn(), (image(), image()), qconfig=INT8, prepare=config, quantize_output=False
    )
    model = prepared.model
    assert hasattr(model, "x_activation_post_process_0")
    assert not hasattr(model, "y_activation_post_process_0")
    assert not model.a_activation_post_process_0.disabled
    assert model.b_activation_post_process_0.disabled


@pytest.mark.parametrize("key", ["non_traceable_module_name", "standalone_module_name"])
def test_a_name_that_is_not_there(key: str) -> None:
    with pytest.raises(DiagnosticError, match="no module `midle`") as caught:
        prepare(Net(Block()), (image(),), qconfig=INT8, prepare={key: ["midle"]})
    assert caught.value.diagnostics[0].code == "QS505"
