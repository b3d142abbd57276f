"""Functional convs, linears and batch norms on parameters: quantized, fused and lowered as modules
are, without a key of the float model changing; modules that are a single conv."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.fold import QuantFold
from qatspec.quant.modules import QuantCall, QuantConv2d
from tests.unit.prepare.conftest import INT8, image

#: op -> (weight shape, bias, input shape, settings, calls of the same op)
CALLS = {
    "conv1d": ((4, 3, 3), 4, (2, 3, 8), {"padding": 1}, (F.conv1d, torch.conv1d)),
    "conv2d": ((4, 3, 3, 3), 4, (2, 3, 8, 8), {"stride": 2}, (F.conv2d, torch.conv2d)),
    "conv2d same": ((4, 3, 3, 3), None, (2, 3, 8, 8), {"padding": "same"}, (F.conv2d,)),
    "conv2d groups": ((6, 1, 3, 3), 6, (2, 3, 8, 8), {"groups": 3}, (F.conv2d,)),
    "conv3d": ((4, 3, 2, 2, 2), 4, (2, 3, 4, 4, 4), {}, (F.conv3d, torch.conv3d)),
    "conv_transpose1d": (
        (3, 4, 2), 4, (2, 3, 8), {"stride": 2}, (F.conv_transpose1d, torch.conv_transpose1d)
    ),
    "conv_transpose2d": (
        (3, 4, 2, 2), 4, (2, 3, 8, 8), {"stride": 2, "output_padding": 1},
        (F.conv_transpose2d, torch.conv_transpose2d),
    ),
    "conv_transpose2d groups": (
        (4, 2, 2, 2), 4, (2, 4, 8, 8), {"groups": 2}, (F.conv_transpose2d,)
    ),
    "conv_transpose3d": (
        (3, 4, 2, 2, 2), None, (2, 3, 4, 4, 4), {},
        (F.conv_transpose3d, torch.conv_transpose3d),
    ),
    "linear": ((4, 3), 4, (8, 3), {}, (F.linear,)),
}  # fmt: skip
CASES = [(name, call) for name, (*_, calls) in CALLS.items() for call in calls]


class Call(nn.Module):
    """One functional call, with F.batch_norm behind it where asked, and a rectifier."""

    def __init__(self, name: str, call, norm: bool = False) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        shape, bias, _, self.settings, _ = CALLS[name]
        self.w = nn.Parameter(torch.randn(shape, generator=generator))
        self.b = nn.Parameter(torch.randn(bias, generator=generator)) if bias else None
        channels = bias or (shape[1] if "transpose" in name else shape[0])
        if norm:
            self.register_buffer("mean", torch.randn(channels, generator=generator))
            self.register_buffer("var", torch.rand(channels, generator=generator) + 0.5)
            self.gamma = nn.Parameter(torch.randn(channels, generator=generator))
            self.beta = nn.Parameter(torch.randn(channels, generator=generator))
        self.call, self.norm = call, norm

    def forward(self, x: Tensor) -> Tensor:
        y = self.call(x, self.w, bias=self.b, **self.settings)
        if self.norm:
            y = F.batch_norm(y, self.mean, self.var, self.gamma, self.beta, self.training, 0.2)
        return F.relu(y)


def _equals_float(prepared: Prepared, net: nn.Module, x: Tensor) -> None:
    """With fake-quants off the same numbers; with them on, numbers nearby."""
    net.eval()
    torch.testing.assert_close(prepared.model(x), net(x), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "eval")
    error = (prepared.model(x) - net(x)).abs().max()
    assert 0 < error < 0.05 * net(x).abs().max()


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize(("name", "call"), CASES)
def test_a_call_is_one_with_the_module(name: str, call, norm: bool) -> None:
    net, x = Call(name, call, norm), image(*CALLS[name][2])
    prepared = prepare(net, (x,), qconfig=INT8)
    assert prepared.warnings == ()
    decisions = [d for d in prepared.decisions.values() if d.weight is not None]
    assert [len(d.group) for d in decisions] == [2 + norm]
    kind = QuantFold if norm else QuantCall
    assert sum(isinstance(m, kind) for m in prepared.model.modules()) == 1
    assert sum(isinstance(m, FakeQuantize) for m in prepared.model.modules()) == 3
    assert [k for k in prepared.model.state_dict() if k in net.state_dict()] == [*net.state_dict()]
    _equals_float(prepared, net, x)
    set_stage(prepared, "qat")
    prepared.model(x).square().sum().backward()
    assert all(p.grad is not None for p in prepared.model.parameters())


def test_batch_statistics_move_as_in_float() -> None:
    net, x = Call("conv2d", F.conv2d, norm=True), image()
    prepared = prepare(net, (x,), qconfig=INT8)
    set_stage(prepared, "qat")
    before = net.mean.clone()
    net.train()(x)
    prepared.model(x)
    assert not torch.equal(net.mean, before)
    torch.testing.assert_close(prepared.model.mean, net.mean, rtol=0.02, atol=0.02)
    torch.testing.assert_close(prepared.model.var, net.var, rtol=0.05, atol=0.02)


def _frozen(net: Call, y: Tensor) -> Tensor:
    return F.batch_norm(y, net.mean, net.var, net.gamma, net.beta)


def _frozen_as_torch_has_it(net: Call, y: Tensor) -> Tensor:
    return torch.batch_norm(
        y, net.gamma, net.beta, net.mean, net.var, False, 0.1, 1e-3, torch.backends.cudnn.enabled
    )


@pytest.mark.parametrize("norm", [_frozen, _frozen_as_torch_has_it])
def test_a_norm_that_never_trains_keeps_its_statistics(norm) -> None:
    class Net(Call):
        def forward(self, x: Tensor) -> Tensor:
            return norm(self, self.call(x, self.w, self.b))

    net, x = Net("conv2d", F.conv2d, norm=True), image()
    prepared = prepare(net, (x,), qconfig=INT8)
    set_stage(prepared, "qat")
    trained = prepared.model(x)
    assert torch.equal(prepared.model.mean, net.mean)
    error = (trained - net(x)).abs().max()
    assert 0 < error < 0.05 * net(x).abs().max()


class Tied(nn.Module):
    """One weight, read by two functional calls and by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 1)
        self.stem = nn.Conv2d(3, 4, 1)
        self.again = nn.Conv2d(4, 4, 1)
        self.again.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.conv(self.stem(x)).relu())
        return F.conv2d(F.conv2d(x, self.conv.weight).relu(), self.conv.weight)


def test_tied_weights_stay_tied_through_training_and_lowering() -> None:
    torch.manual_seed(0)
    prepared = prepare(Tied(), (image(),), qconfig="horizon_qat", quantize_output=False)
    model = prepared.model
    assert sum(isinstance(m, QuantCall) for m in model.modules()) == 1
    set_stage(prepared, "qat")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(3):
        optimizer.zero_grad()
        model(image()).square().mean().backward()
        optimizer.step()
    assert model.again.weight is model.conv.weight
    again = copy.deepcopy(model)
    assert again.again.weight is again.conv.weight
    set_stage(prepared, "eval")
    program = lower(prepared, (image(),))
    ints = [program.consts[op.inputs[1]] for op in program.ops if op.kind == "conv"]
    assert len(ints) == 5
    assert all((weight == ints[1]).all() for weight in ints[2:])


def test_rules_reach_functional_calls() -> None:
    for rules in (
        {"": INT8, "object_type": [["torch.nn.functional.conv2d", None]]},
        {"": INT8, "object_type": [[nn.Conv2d, None]]},
    ):
        prepared = prepare(Call("conv2d", F.conv2d), (image(),), qconfig=rules)
        assert not any(isinstance(m, QuantCall) for m in prepared.model.modules())
        torch.testing.assert_close(prepared.model(image()), Call("conv2d", F.conv2d)(image()))


def test_a_weight_computed_from_parameters_is_quantized_as_it_comes_out() -> None:
    class Standardized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(4, 3, 3, 3))

        def forward(self, x: Tensor) -> Tensor:
            w = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
            return F.conv2d(x, w / w.std((1, 2, 3), keepdim=True), padding=1)

    torch.manual_seed(0)
    net, x = Standardized(), image()
    prepared = prepare(net, (x,), qconfig=INT8)
    assert [d.op for d in prepared.decisions.values()] == ["placeholder", "conv2d"]
    _equals_float(prepared, net, x)
    set_stage(prepared, "qat")
    prepared.model(x).sum().backward()
    assert prepared.model.weight.grad is not None


@pytest.mark.parametrize("norm", [False, True])
def test_a_parametrized_conv_is_quantized_as_its_weight_comes_out(norm: bool) -> None:
    torch.manual_seed(0)
    conv = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 4, 3, padding=1))
    net, x = nn.Sequential(conv, nn.BatchNorm2d(4) if norm else nn.ReLU()), image()
    prepared = prepare(net, (x,), qconfig=INT8)
    assert [k for k in prepared.model.state_dict() if k in net.state_dict()] == [*net.state_dict()]
    assert sum(d.weight is not None for d in prepared.decisions.values()) == 1
    _equals_float(prepared, net, x)
    set_stage(prepared, "qat")
    prepared.model(x).square().sum().backward()
    assert all(p.grad is not None for p in prepared.model.parameters())


def test_a_conv_of_the_models_own_class_is_swapped_where_it_stands() -> None:
    class Own(nn.Conv2d):
        """Nothing of its own but the name."""

    class Padded(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(F.pad(x, (1, 1, 1, 1)))

    net, x = nn.Sequential(Own(3, 4, 1), Padded(4, 4, 3)), image()
    prepared = prepare(net, (x,), qconfig=INT8)
    model = prepared.model
    assert isinstance(model.get_submodule("0"), QuantConv2d)
    assert [d.op for d in prepared.decisions.values()].count("conv2d") == 2
    _equals_float(prepared, net, x)


def test_a_weight_computed_from_the_input_stays_in_float() -> None:
    class Dynamic(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.conv2d(x, x.mean((0, 2, 3)).reshape(1, 3, 1, 1).expand(4, 3, 1, 1))

    prepared = prepare(Dynamic(), (image(),), qconfig=INT8)
    assert "computed from the input" in prepared.decisions[":conv2d"].reason
    torch.testing.assert_close(prepared.model(image()), Dynamic()(image()))


BARE = {
    "conv2d": (nn.Conv2d(3, 4, 3, padding=1), (2, 3, 8, 8)),
    "reflect": (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), (2, 3, 8, 8)),
    "conv1d": (nn.Conv1d(3, 4, 3), (2, 3, 8)),
    "deconv": (nn.ConvTranspose2d(3, 4, 2, 2), (2, 3, 8, 8)),
    "linear": (nn.Linear(3, 4), (8, 3)),
}


@pytest.mark.parametrize("name", BARE)
def test_a_model_that_is_one_conv(name: str) -> None:
    net, x = copy.deepcopy(BARE[name][0]), image(*BARE[name][1])
    prepared = prepare(net, (x,), qconfig="horizon_qat", quantize_output=False)
    assert list(prepared.model.state_dict())[: len(net.state_dict())] == list(net.state_dict())
    _equals_float(prepared, net, x)
    assert lower(prepared, (x,)).outputs[0].dtype == "int32"


@pytest.mark.parametrize("name", BARE)
def test_a_quantized_module_that_is_one_conv(name: str) -> None:
    class Around(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = copy.deepcopy(BARE[name][0])

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x) * 2

    net, x = Around(), image(*BARE[name][1])
    prepared = prepare(net, (x,), qconfig=INT8, modules={"layer": {}})
    assert [k for k in prepared.model.state_dict() if k in net.state_dict()] == [*net.state_dict()]
    _equals_float(prepared, net, x)
    saved = copy.deepcopy(prepared.model.state_dict())
    again = prepare(net, (x,), qconfig=INT8, modules={"layer": {}})
    again.model.load_state_dict(saved)
    set_stage(again, "eval")
    assert torch.equal(again.model(x), prepared.model(x))
