"""The keys of `prepare` that bring code; each test fails where its key is ignored."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.graph.deploy import deploy_graph, quantize_custom
from qatspec.prepare import prepare, set_stage
from qatspec.prepare.custom import forward
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantConv2d
from qatspec.types import Annotation, Fixed
from tests.unit.prepare.conftest import INT8, image


class Net(nn.Module):
    """conv, norm, relu, then a sigmoid behind a conv."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.relu = nn.ReLU()
        self.last = nn.Conv2d(4, 2, 1)
        self.sigmoid = nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.sigmoid(self.last(self.relu(self.norm(self.conv(x)))))


def _groups(net: nn.Module, config: dict) -> dict[str, tuple[str, ...]]:
    prepared = prepare(net, (image(),), qconfig=INT8, prepare=config)
    return {d.node.partition(":")[2]: d.group for d in prepared.decisions.values()}


CONV, NORM, RELU = "torch.nn.Conv2d", "torch.nn.BatchNorm2d", "torch.nn.ReLU"


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ((nn.BatchNorm2d, nn.Conv2d), (CONV, NORM)),  # the community tutorial's
        ((nn.Conv2d, nn.BatchNorm2d), (CONV, NORM)),
        ((nn.ReLU, (nn.BatchNorm2d, nn.Conv2d)), (CONV, NORM, RELU)),  # torch's, nested
        ((nn.Conv2d, nn.BatchNorm2d, nn.ReLU), (CONV, NORM, RELU)),
        ((nn.ReLU, nn.BatchNorm2d, nn.Conv2d), (CONV, NORM, RELU)),
        ((nn.ReLU, nn.BatchNorm2d), (NORM, RELU)),  # a pair without a weight: torch's order
        (nn.Conv2d, (CONV,)),
        (("torch.nn.ReLU", ("torch.nn.BatchNorm2d", "torch.nn.Conv2d")), (CONV, NORM, RELU)),
    ],
)
def test_patterns_in_both_orders(pattern: object, names: tuple[str, ...]) -> None:
    assert forward(pattern) == names


@pytest.mark.parametrize(
    "pattern", [(nn.Sigmoid, nn.Conv2d), (nn.Conv2d, nn.Sigmoid), ("sigmoid", "conv2d")]
)
def test_additional_fusion_pattern(pattern: tuple) -> None:
    seen = []

    def handler(match) -> str | None:
        seen.append(match.op(0))
        return None

    config = {"additional_fusion_pattern": {pattern: handler}}
    assert _groups(Net(), {})["last"] == ("last",)
    assert _groups(Net(), config)["last"] == ("last", "sigmoid")
    assert seen == ["conv2d"]
    refusing = {"additional_fusion_pattern": {pattern: lambda match: "not today"}}
    prepared = prepare(Net(), (image(),), qconfig=INT8, prepare=refusing)
    assert prepared.decisions[":last"].group == ("last",)
    assert "not today" in prepared.decisions[":last"].reason


def test_a_fusion_pattern_may_name_a_registered_one() -> None:
    config = {"additional_fusion_pattern": [[["torch.nn.Sigmoid", "torch.nn.Conv2d"], "sum_act"]]}
    assert _groups(Net(), config)["last"] == ("last", "sigmoid")


@pytest.mark.parametrize(
    "pattern", [nn.Conv2d, (nn.ReLU, nn.Conv2d), (nn.ReLU, (nn.BatchNorm2d, nn.Conv2d))]
)
def test_additional_quant_pattern(pattern: object) -> None:
    def handler(node, context) -> Annotation:
        return Annotation(kind="anchor", has_weight=True, output=Fixed(0.25))

    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    if pattern == (nn.ReLU, (nn.BatchNorm2d, nn.Conv2d)):
        net.insert(1, nn.BatchNorm2d(4))
    prepared = prepare(
        net, (image(),), qconfig=INT8, prepare={"additional_quant_pattern": {pattern: handler}}
    )
    assert prepared.decisions[":_0"].reason == "fixed scale 0.25"


@pytest.mark.parametrize(("preset", "told"), [({}, None), ({"preset": "horizon"}, "bayes")])
def test_handlers_are_told_the_march_by_the_preset_alone(preset: dict, told: str | None) -> None:
    seen = set()

    def handler(node, context) -> Annotation:
        seen.add(context.march)
        return Annotation(kind="anchor", has_weight=True)

    config = {**preset, "additional_quant_pattern": {nn.Conv2d: handler}}
    net = nn.Sequential(nn.Conv2d(3, 4, 1))
    prepare(net, (image(),), qconfig=INT8, prepare=config, march="bayes")
    assert seen == {told}


def test_a_quant_pattern_fuses_what_it_names_and_takes_a_registered_handler() -> None:
    key = "additional_quant_pattern"
    pairs = [[["torch.nn.Sigmoid", "torch.nn.Conv2d"], "conv"]]
    assert _groups(Net(), {key: pairs})["last"] == ("last", "sigmoid")
    with pytest.raises(DiagnosticError, match="which it does not serve"):
        prepare(Net(), (image(),), qconfig=INT8, prepare={key: [["torch.nn.Sigmoid", "shape"]]})


def test_a_handler_that_returns_something_else() -> None:
    config = {"additional_quant_pattern": {nn.Conv2d: lambda node, context: "conv"}}
    with pytest.raises(DiagnosticError, match="returned 'conv'") as caught:
        prepare(Net(), (image(),), qconfig=INT8, prepare=config)
    assert caught.value.diagnostics[0].code == "QS602"


class Scaled(nn.Conv2d):
    """What a fuser method makes of conv and norm: a class of its own."""


class QuantScaled(Scaled):
    """Its QAT form, after torch's convention."""

    @classmethod
    def from_float(cls, module: nn.Conv2d) -> QuantScaled:
        new = cls(module.in_channels, module.out_channels, module.kernel_size)
        new.weight, new.bias = module.weight, module.bias
        new.weight_fake_quant = module.qconfig.weight()
        return new

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight_fake_quant(self.weight), self.bias)


def fuse_scaled(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> Scaled:
    new = Scaled(conv.in_channels, conv.out_channels, conv.kernel_size)
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        new.weight.copy_(conv.weight * factor.reshape(-1, 1, 1, 1))
        new.bias.copy_((conv.bias - norm.running_mean) * factor + norm.bias)
    return new


def test_additional_fuser_method_mapping() -> None:
    config = {"additional_fuser_method_mapping": {(nn.Conv2d, nn.BatchNorm2d): fuse_scaled}}
    net = Net().eval()
    prepared = prepare(net, (image(),), qconfig=INT8, prepare=config)
    assert isinstance(prepared.model.conv, QuantConv2d)
    assert type(prepared.model.norm) is nn.Identity
    assert prepared.decisions[":conv"].group == ("conv", "relu")
    torch.testing.assert_close(prepared.model(image()), net(image()), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    prepared.model(image()).sum().backward()


def test_a_fuser_method_solves_a_conv_shared_by_norms() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)
            self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))
            with torch.no_grad():
                self.norms[1].weight.fill_(7.0)

        def forward(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = norm(self.conv(x))
            return x

    net = Shared().eval()
    config = {"additional_fuser_method_mapping": {(nn.Conv2d, nn.BatchNorm2d): fuse_scaled}}
    prepared = prepare(net, (image(),), qconfig=INT8, prepare=config)
    assert all(isinstance(norm, QuantConv2d) for norm in prepared.model.norms)
    torch.testing.assert_close(prepared.model(image()), net(image()), rtol=1e-4, atol=1e-5)


def test_additional_qat_module_mapping() -> None:
    config = {"additional_qat_module_mapping": {nn.Conv2d: QuantScaled}}
    prepared = prepare(Net(), (image(),), qconfig=INT8, prepare=config)
    model = prepared.model
    assert type(model.last) is QuantScaled
    assert type(model.conv) is nn.Conv2d  # folded into its norm, a case of its own
    weight_fake_quant = model.last.weight_fake_quant
    assert isinstance(weight_fake_quant, FakeQuantize) and not weight_fake_quant.fake_quant_on
    model(image())
    set_stage(prepared, "qat")
    assert weight_fake_quant.fake_quant_on and weight_fake_quant.observed
    model(image()).sum().backward()
    assert model.last.weight.grad is not None


def test_a_fused_class_is_swapped_by_the_qat_mapping() -> None:
    config = {
        "additional_fuser_method_mapping": {(nn.Conv2d, nn.BatchNorm2d): fuse_scaled},
        "additional_qat_module_mapping": {Scaled: QuantScaled},
    }
    prepared = prepare(Net(), (image(),), qconfig=INT8, prepare=config)
    assert type(prepared.model.conv) is QuantScaled
    assert type(prepared.model.last) is QuantConv2d


def test_torchs_own_qat_class_can_be_named() -> None:
    name = "torch.ao.nn.qat.Conv2d"
    config = {"additional_qat_module_mapping": {"torch.nn.Conv2d": name}}
    prepared = prepare(Net(), (image(),), qconfig=INT8, prepare=config)
    assert type(prepared.model.last).__module__.startswith("torch.ao")
    prepared.model(image())
    set_stage(prepared, "eval")
    assert prepared.model(image()).isfinite().all()


class Gate(nn.Module):
    """Cannot be traced."""

    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class ObservedGate(Gate):
    @classmethod
    def from_float(cls, module: Gate) -> ObservedGate:
        new = cls()
        new.seen = module.qconfig.activation()
        return new


class QuantizedGate(nn.Module):
    @classmethod
    def from_observed(cls, module: ObservedGate) -> QuantizedGate:
        return cls()

    def forward(self, x: Tensor) -> Tensor:
        return x.relu()


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate = nn.Conv2d(3, 3, 1), Gate()

    def forward(self, x: Tensor) -> Tensor:
        return self.gate(self.conv(x))


def test_custom_modules() -> None:
    config = {
        "float_to_observed_custom_module_class": {Gate: ObservedGate},
        "observed_to_quantized_custom_module_class": {ObservedGate: QuantizedGate},
    }
    with pytest.raises(DiagnosticError, match="depends on the numbers"):
        prepare(Gated(), (image(),), qconfig=INT8)
    prepared = prepare(Gated(), (image(),), qconfig=INT8, prepare=config)
    model = prepared.model
    assert type(model.gate) is ObservedGate and isinstance(model.gate.seen, FakeQuantize)
    assert isinstance(model.conv_activation_post_process_0, FakeQuantize)
    assert isinstance(model.gate_activation_post_process_0, FakeQuantize)
    model(image())
    deployed = quantize_custom(prepared)
    assert type(deployed.model.gate) is QuantizedGate and type(model.gate) is ObservedGate
    assert "relu" in str(deploy_graph(deployed, (image(),)))


def test_a_custom_module_that_a_rule_leaves_in_float_stays() -> None:
    config = {"float_to_observed_custom_module_class": {Gate: ObservedGate}}
    rules = {"": INT8, "object_type": [[Gate, None]]}
    with pytest.raises(DiagnosticError, match="depends on the numbers"):
        prepare(Gated(), (image(),), qconfig=rules, prepare=config)


@pytest.mark.parametrize("name", ["os.system", "torch.load", "nowhere.at.all"])
def test_names_come_from_torch_nn_and_plugins_only(name: str) -> None:
    config = {"additional_fuser_method_mapping": [[["torch.nn.Conv2d"], name]]}
    with pytest.raises(DiagnosticError, match="not a class or function") as caught:
        prepare(Net(), (image(),), qconfig=INT8, prepare=config)
    assert caught.value.diagnostics[0].code == "QS602"


def test_a_class_without_the_method_is_refused() -> None:
    config = {"additional_qat_module_mapping": {nn.Conv2d: Gate}}
    with pytest.raises(DiagnosticError, match="has no `from_float`"):
        prepare(Net(), (image(),), qconfig=INT8, prepare=config)
