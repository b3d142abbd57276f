"""The Horizon presets as the rule "presets" states them, under their aliases too."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from qatspec.api import (
    DiagnosticError,
    compile as compile_program,
    lower,
    perf,
    prepare,
    registry,
    set_stage,
)


@pytest.mark.parametrize(
    "name,alias",
    [
        ("horizon_calibration", "HorizonCalibrationQConfig"),
        ("horizon_calibrated", "HorizonCalibratedQConfig"),
        ("horizon_qat", "HorizonQConfig"),
    ],
)
def test_the_tutorials_names_are_aliases(name, alias):
    assert registry().qconfig(alias) is registry().qconfig(name)


def test_the_tutorials_prepare_dict_is_an_alias():
    preset = registry().prepare_config("HorizonPrepareCustomConfigDict")
    assert preset is registry().prepare_config("horizon")
    assert preset.config.march_preset
    assert preset.config.shared_conv == "tied"


class _Gate(nn.Module):
    def __init__(self, activation):
        super().__init__()
        self.conv, self.activation, self.tail = nn.Conv2d(3, 4, 1), activation, nn.Conv2d(4, 2, 1)

    def forward(self, x):
        return self.tail(self.activation(self.conv(x)))


def _float(activation, march, preset):
    image = (torch.zeros(1, 3, 4, 4),)
    prepared = prepare(_Gate(activation), image, qconfig="horizon_qat", prepare=preset, march=march)
    return [w.message for w in prepared.warnings if w.code == "QS608"]


@pytest.mark.parametrize("activation", [nn.ReLU6(), nn.Sigmoid(), nn.Tanh()])
def test_what_both_marches_take_is_quantized(activation):
    for march in ("bernoulli2", "bayes"):
        assert _float(activation, march, "horizon") == []


NET = {
    "softmax": lambda: _Gate(nn.Softmax(1)),
    "log_softmax": lambda: _Gate(nn.LogSoftmax(1)),
    "layer_norm": lambda: _Gate(nn.LayerNorm(4)),
    "group_norm": lambda: _Gate(nn.GroupNorm(2, 4)),
    "instance_norm2d": lambda: _Gate(nn.InstanceNorm2d(4)),
    "matmul": lambda: _Gate(_Squared()),
}


class _Squared(nn.Module):
    def forward(self, x):
        return x @ x.transpose(2, 3)


class _Projected(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))

    def forward(self, x):
        return torch.matmul(x, self.weight)


def _settled(net, march, preset):
    image = (torch.rand(2, 3, 4, 4),)
    prepared = prepare(net, image, qconfig="horizon_qat", prepare=preset, march=march)
    prepared.model(*image)
    set_stage(prepared, "eval")
    return prepared, image


def _on_the_cpu(net, march):
    """The rows of perf's CPU parts. Compiling has compared every layer with the interpreter."""
    program = lower(*_settled(net, march, "horizon"))
    artifact = compile_program(program, march)
    assert artifact.manifest["verified_frames"] == 1
    _, *rows = perf(artifact)["summary"]["CPU parts"]
    return program, rows


#: bayes computes them on the chip
ON_BAYES = ("softmax", "matmul")


@pytest.mark.parametrize(
    "op, march",
    [(op, march) for op in NET for march in ("bernoulli2", "bayes")
     if march == "bernoulli2" or op not in ON_BAYES],
)  # fmt: skip
def test_what_both_marches_leave_to_the_cpu(op, march):
    """It is quantized, runs on the CPU between two parts of the chip, and has its price."""
    assert _float(NET[op]().activation, march, "horizon") == []
    program, rows = _on_the_cpu(NET[op](), march)
    assert rows and {name.partition(":")[0] for name, *_ in rows} == {"activation"}
    assert all("the chip has no" in reason for _, reason, _ in rows)
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, march, chip_only=True)
    (found,) = caught.value.diagnostics
    assert found.code == "QS801" and "runs on the CPU: the chip has no" in found.message


@pytest.mark.parametrize("op", ON_BAYES)
@pytest.mark.parametrize("march", ["bayes", "bayes_e"])
def test_bayes_multiplies_activations_and_has_a_softmax(op, march):
    program, rows = _on_the_cpu(NET[op](), march)
    assert rows == []
    assert {"exp_below_max", "matmul"} & {o.kind for o in program.ops}
    assert compile_program(program, march, chip_only=True).march == march


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.GELU(), nn.ELU()])
def test_bernoulli2_leaves_curved_activations_to_the_cpu(activation):
    _, rows = _on_the_cpu(_Gate(activation), "bernoulli2")
    assert [name for name, *_ in rows] == ["activation"]
    _, rows = _on_the_cpu(_Gate(activation), "bayes")
    assert rows == []


def test_what_a_march_leaves_in_float_is_refused_between_integers(monkeypatch):
    record = replace(registry().march("bayes"), float_ops={"softmax": "no such op; use a sigmoid"})
    monkeypatch.setattr(registry(), "march", lambda name: record)
    (warning,) = _float(nn.Softmax(1), "bayes", "horizon")
    assert "stays in float: bayes: no such op; use a sigmoid" in warning
    assert _float(nn.Softmax(1), "bayes", None) == []
    with pytest.raises(DiagnosticError) as caught:
        lower(*_settled(NET["softmax"](), "bayes", "horizon"))
    (found,) = caught.value.diagnostics
    assert found.code == "QS701" and "bayes: no such op" in found.message


@pytest.mark.parametrize("march", ["bernoulli2", "bayes"])
def test_a_product_with_parameters_is_a_linear_layer(march):
    assert _float(_Projected(), march, "horizon") == []
    program = lower(*_settled(_Gate(_Projected()), march, "horizon"))
    assert "linear" in {op.kind for op in program.ops}
    assert compile_program(program, march).march == march


def test_calibration_observes_by_percentile():
    activation = registry().qconfig("horizon_calibration").config.activation
    assert (activation.observer, activation.percentile, activation.bins) == (
        "percentile", 99.99, 2048,
    )  # fmt: skip


def test_calibrated_activations_are_fixed_and_need_a_calibration():
    preset = registry().qconfig("horizon_calibrated")
    assert preset.config.activation.fake_quant == "fixed"
    assert preset.needs_calibration
    assert not registry().qconfig("horizon_qat").needs_calibration


def test_qat_activations_move_by_a_hundredth():
    activation = registry().qconfig("horizon_qat").config.activation
    assert (activation.fake_quant, activation.averaging_constant) == ("moving", 0.01)


@pytest.mark.parametrize("name", ["horizon_calibration", "horizon_calibrated", "horizon_qat"])
def test_weights_follow_per_output_channel(name):
    weight = registry().qconfig(name).config.weight
    assert (weight.dtype, weight.ch_axis, weight.averaging_constant) == ("qint8", 0, 1.0)
