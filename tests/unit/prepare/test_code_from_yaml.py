"""The keys of `prepare` that bring code, from a YAML and a file plugin, through the stages."""

from __future__ import annotations

import pytest
import torch

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare_spec, set_stage
from qatspec.spec import load
from qatspec.train.checkpoint import load as load_checkpoint

OWN = '''
"""Code that the spec names: `own.<name>`."""

import torch
from torch import nn

from toy_plugin import Net, WIDTH, schema
from qatspec.api import Annotation, Fixed, ModelDef, hookimpl


class Gate(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else x.relu()      # cannot be traced


class ObservedGate(Gate):
    @classmethod
    def from_float(cls, module):
        new = cls()
        new.seen = module.qconfig.activation()
        return new

    def forward(self, x):
        return self.seen(x).relu()


class QuantizedGate(nn.Module):
    @classmethod
    def from_observed(cls, module):
        return cls()

    def forward(self, x):
        return x.relu()


class Fused(nn.Conv2d):
    pass


class QuantHead(nn.Conv2d):
    @classmethod
    def from_float(cls, module):
        new = cls(module.in_channels, module.out_channels, module.kernel_size)
        new.weight, new.bias = module.weight, module.bias
        new.weight_fake_quant = module.qconfig.weight()
        return new

    def forward(self, x):
        return self._conv_forward(x, self.weight_fake_quant(self.weight), self.bias)


class Head(nn.Conv2d):
    pass


class Own(Net):
    def __init__(self, width):
        super().__init__(width)
        self.gate, self.mid, self.act = Gate(), nn.Conv2d(width, width, 1), nn.Sigmoid()
        self.head = Head(width, 4, 4)

    def forward(self, images):
        return self.head(self.act(self.mid(self.gate(self.stem(images)))))


def fuse(conv, norm):
    new = Fused(conv.in_channels, conv.out_channels, conv.kernel_size, conv.stride, conv.padding)
    with torch.no_grad():
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        new.weight.copy_(conv.weight * factor.reshape(-1, 1, 1, 1))
        new.bias.copy_(norm.bias - norm.running_mean * factor)
    return new


def allow(match):
    return None


def annotate(node, context):
    return Annotation(kind="anchor", has_weight=True, output=Fixed(0.0078125))


@hookimpl
def qatspec_models():
    yield ModelDef(
        name="own_net", summary="with a gate", params=schema(width=WIDTH),
        build=lambda params: Own(params["width"]),
    )
'''

KEYS = {
    "float_to_observed_custom_module_class": "{own.Gate: own.ObservedGate}",
    "observed_to_quantized_custom_module_class": "{own.ObservedGate: own.QuantizedGate}",
    "additional_fuser_method_mapping": "[[[torch.nn.Conv2d, torch.nn.BatchNorm2d], own.fuse]]",
    "additional_fusion_pattern": "[[[torch.nn.Sigmoid, torch.nn.Conv2d], own.allow]]",
    "additional_quant_pattern": "[[[torch.nn.Sigmoid, torch.nn.Conv2d], own.annotate]]",
    "additional_qat_module_mapping": "{own.Head: own.QuantHead}",
}


@pytest.fixture
def own(project, monkeypatch: pytest.MonkeyPatch):
    """The toy project with `own.py` beside it; gives a function that writes the prepare keys."""
    (project.folder / "own.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(project.folder))
    project.edit("plugins: [./toy_plugin.py]", "plugins: [./toy_plugin.py, ./own.py]")
    project.edit("type: toy_net", "type: own_net")
    text = project.spec.read_text()

    def write(*names: str) -> None:
        keys = ", ".join(f"{name}: {KEYS[name]}" for name in names)
        project.spec.write_text(text.replace("{prepare: horizon,", f"{{prepare: {{{keys}}},", 1))

    project.write = write
    return project


def _prepared(own, *names: str):
    own.write(*names)
    spec = own.load()
    from qatspec.registry import registry

    torch.manual_seed(0)
    model = registry().model("own_net").build({"width": 8})
    return prepare_spec(spec, "calibration", model), model


ALWAYS = ("float_to_observed_custom_module_class", "observed_to_quantized_custom_module_class")


def test_custom_modules(own) -> None:
    with pytest.raises(DiagnosticError, match="depends on the numbers"):
        _prepared(own)
    prepared, _ = _prepared(own, *ALWAYS)
    assert type(prepared.model.gate).__name__ == "ObservedGate"
    assert [n.rpartition(".")[2] for n in prepared.quantized_classes] == ["ObservedGate"]


def test_a_fuser_method(own) -> None:
    prepared, model = _prepared(own, *ALWAYS, "additional_fuser_method_mapping")
    fused = prepared.model.stem.get_submodule("0")
    assert fused.bias is not None and model.stem[0].bias is None
    assert type(prepared.model.stem.get_submodule("1")) is torch.nn.Identity


def test_patterns(own) -> None:
    plain, _ = _prepared(own, *ALWAYS)
    assert plain.decisions[":mid"].group == ("mid",)
    fused, _ = _prepared(own, *ALWAYS, "additional_fusion_pattern")
    assert fused.decisions[":mid"].group == ("mid", "act")
    handled, _ = _prepared(own, *ALWAYS, "additional_quant_pattern")
    assert handled.decisions[":mid"].reason == "fixed scale 0.0078125"


def test_a_qat_class(own) -> None:
    prepared, _ = _prepared(own, *ALWAYS, "additional_qat_module_mapping")
    assert type(prepared.model.head).__name__ == "QuantHead"


def test_all_of_it_through_training_and_lowering(own) -> None:
    names = (*ALWAYS, "additional_fuser_method_mapping")
    prepared, _ = _prepared(own, *names)
    x = torch.randn(4, 3, 16, 16)
    prepared.model(x)
    set_stage(prepared, "qat")
    prepared.model(x).sum().backward()
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    assert [op.kind for op in program.ops].count("conv") == 4


def test_a_fuser_method_takes_the_weights_of_the_float_stage(own) -> None:
    """It computes its module's weights from those that were trained, not from a new model's."""
    own.write(*ALWAYS, "additional_fuser_method_mapping")
    checked = own.call("check", "toy.yaml", "--allow-code")
    assert checked.returncode == 0, checked.stderr
    done = own.call("run", "toy.yaml", "--allow-code", "--workdir", "work", "--device", "cpu")
    assert done.returncode == 0, done.stderr
    trained = load_checkpoint(own.workdir / "float/float-checkpoint-best.pth.tar").weights
    found = load_checkpoint(own.workdir / "calibration/calibration-checkpoint-best.pth.tar").weights
    scale = trained["stem.1.weight"] / (trained["stem.1.running_var"] + 1e-5).sqrt()
    wanted = trained["stem.0.weight"] * scale.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(found["stem.0.weight"], wanted, rtol=1e-4, atol=1e-6)


def test_code_needs_the_flag(own) -> None:
    # a conv whose sigmoid is in its group has no integer form
    own.write(*KEYS)
    own.edit("  convert: {}\n  compile: {opt: O3}\n", "")
    done = own.call("validate", "toy.yaml")
    assert done.returncode == 1 and "--allow-code" in done.stderr
    assert own.call("check", "toy.yaml", "--allow-code").returncode == 0
    with pytest.raises(DiagnosticError):
        load(own.spec)
