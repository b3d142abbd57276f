"""lower: against the fake-quant model (one step of accuracy), against the referee, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.ir import HOST, unflatten
from qatspec.lower import lower
from qatspec.prepare import set_stage
from qatspec.program import dump
from qatspec.program.serde import to_bytes
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.referee import interpret, interpret_all


def fake_quant_outputs(prepared, x):
    """(fake-quant path -> its output as integers, the model's outputs)."""
    seen = {}

    def remember(path):
        def hook(module, args, output):
            if module.fake_quant_on:
                seen[path] = torch.round(output / module.scale).int().numpy()

        return hook

    hooks = [
        m.register_forward_hook(remember(name))
        for name, m in prepared.model.named_modules()
        if isinstance(m, FakeQuantize) and "weight" not in name
    ]
    with torch.no_grad():
        outputs = prepared.model(x)
    for hook in hooks:
        hook.remove()
    return seen, outputs


def test_everything_lowers_and_stays_close_to_fake_quant(everything):
    prepared, x = everything
    program = lower(prepared, (x,))
    ints = program.quantize(x.numpy())
    values = interpret_all(program, *ints)
    for port, found in zip(program.outputs, program.run(*ints), strict=True):
        assert np.array_equal(found, values[port.name])
    _, outputs = fake_quant_outputs(prepared, x)
    mine = unflatten(program.tree, program.dequantize(program.run(*ints)))
    assert sorted(mine) == ["fc", "line", "maps"]
    assert isinstance(mine["maps"], list)
    flat = [*outputs["maps"], outputs["fc"], outputs["line"]]
    for theirs, ours in zip(flat, [*mine["maps"], mine["fc"], mine["line"]], strict=True):
        assert np.abs(theirs.numpy() - ours).max() < 0.03 * theirs.abs().max()


def test_int32_tail_is_within_the_float_summation_bound(settled):
    x = torch.randn(2, 16, 9, 9)
    prepared = settled(nn.Sequential(nn.Conv2d(16, 8, 3)), x)
    program = lower(prepared, (x,))
    port = program.outputs[0]
    assert (port.dtype, port.axis, port.scale.shape) == ("int32", 1, (8,))
    with torch.no_grad():
        theirs = prepared.model(x).numpy()
    ours = program.dequantize(program.run(*program.quantize(x.numpy())))[0]
    conv = next(m for m in prepared.model.modules() if isinstance(m, nn.Conv2d))
    bound = F.conv2d(x.abs(), conv.weight.abs()).detach().numpy() * 16 * 9 * 2.0**-24
    assert (np.abs(theirs - ours) <= bound + port.scale.max()).all()


def test_stage_and_mode_play_no_part(everything):
    prepared, x = everything
    before = to_bytes(lower(prepared, (x,)))
    state = {k: v.clone() for k, v in prepared.model.state_dict().items()}
    set_stage(prepared, "qat")
    assert to_bytes(lower(prepared, (x,))) == before
    assert prepared.model.training
    after = {k: v for k, v in prepared.model.state_dict().items() if "enabled" not in k}
    assert all(torch.equal(v, state[k]) for k, v in after.items())


def test_march_states_the_arithmetic(settled):
    x = torch.randn(1, 3, 8, 8)
    prepared = settled(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), x, march="bayes",
                       quantize_output=True)  # fmt: skip
    program = lower(prepared, (x,), name="net")
    assert (program.name, program.march) == ("net", "bayes")
    requant = program.ops[-1]
    assert requant.attrs["rounding"] == program.arithmetic.rounding
    assert program.consts[requant.inputs[1]].max() < 2**program.arithmetic.multiplier_bits


def test_provenance_reaches_the_models_source(everything):
    prepared, x = everything
    program = lower(prepared, (x,))
    origins = {op.output: op.origin for op in program.ops}
    assert origins["head"].module == "head"
    assert origins["relu.q"].module == "stem.0"
    assert origins["relu.q"].source.rpartition(":")[0].endswith("nets.py")
    assert "nets.py" in dump(program)


def test_dead_channels_with_a_bias_lower(settled):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU())
    x = torch.randn(1, 3, 8, 8)
    prepared = settled(net, x, quantize_output=True)
    norm = next(m for m in prepared.model.modules() if isinstance(m, nn.BatchNorm2d))
    with torch.no_grad():
        norm.weight[1] = 0.0
        norm.bias[1] = 3.0
        norm.weight_fake_quant.scale[1] = norm.weight_fake_quant.scale[1] * 0 + 1.2e-12
    program = lower(prepared, (x,))
    found = program.dequantize(program.run(*program.quantize(x.numpy())))[0]
    with torch.no_grad():
        expected = prepared.model(x).numpy()
    assert np.abs(found - expected).max() <= program.outputs[0].scale[0] * 1.001


def test_weight_dtypes(settled):
    for dtype, stored in (("qint16", "int16"), ("qint4", "int4")):
        x = torch.randn(1, 3, 8, 8)
        qconfig = {"": {"activation": {"dtype": "qint8"}, "weight": {"dtype": dtype}}}
        net = nn.Sequential(nn.Conv2d(3, 4, 3))
        program = lower(settled(net, x, qconfig=qconfig), (x,))
        ints = program.quantize(x.numpy())
        assert program.values[program.ops[0].inputs[1]].dtype == stored
        assert np.array_equal(program.run(*ints)[0], interpret(program, *ints)[0])


def test_tables_round_half_to_even(settled):
    """x + 1/2 on the grid of x: every entry is a tie."""

    class Half(nn.Module):
        def forward(self, x):
            return x + 0.5

    x = torch.randn(1, 2, 4, 4)
    prepared = settled(Half(), x, quantize_output=True)
    for module in prepared.model.modules():
        if isinstance(module, FakeQuantize):
            module.scale.fill_(1.0)
    program = lower(prepared, (x,))
    (op,) = (op for op in program.ops if op.kind == "lut")
    levels = np.arange(-128, 128)
    assert (
        program.consts[op.inputs[1]].tolist()
        == np.clip([round(v) for v in (levels + 0.5).tolist()], -128, 127).tolist()
    )


@pytest.mark.parametrize(
    "function", [torch.sigmoid, F.silu, F.hardswish, torch.exp, torch.sign, torch.round]
)
def test_tables_over_16_bits_take_few_entries(function, settled):
    """Within one of the correctly rounded entry, and of few bytes."""

    class Curve(nn.Module):
        def forward(self, x):
            return function(x)

    x = torch.linspace(-9, 9, 4096).reshape(1, 1, 64, 64)
    qconfig = {"": {"activation": {"dtype": "qint16"}}}
    prepared = settled(Curve(), x, qconfig=qconfig, quantize_output=True)
    program = lower(prepared, (x,))
    (op,) = (op for op in program.ops if op.kind == "lut")
    assert sum(program.consts[name].nbytes for name in op.inputs[1:]) < 45_000
    (found,) = program.run(*program.quantize(x.numpy()))
    with torch.no_grad():
        expected = np.rint(prepared.model(x).double().numpy() / program.outputs[0].scale[0])
    assert np.abs(found - expected).max() <= 1


@pytest.mark.parametrize("weight", ["qint4", "qint8", "qint16"])
@pytest.mark.parametrize("activation", ["qint4", "qint8", "qint16"])
def test_every_pair_of_dtypes(activation, weight, settled, tmp_path):
    """Interpreter, executor and onnxruntime agree; what could leave int32 is refused."""
    x = torch.randn(2, 3, 9, 9)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.ConvTranspose2d(4, 2, 2, 2), nn.Sigmoid())
    qconfig = {"": {"activation": {"dtype": activation}, "weight": {"dtype": weight}}}
    prepared = settled(net, x, qconfig=qconfig, quantize_output=True)
    if (activation, weight) == ("qint16", "qint16"):
        with pytest.raises(DiagnosticError) as caught:
            lower(prepared, (x,))
        assert {d.code for d in caught.value.diagnostics} == {"QS704"}
        return
    program = lower(prepared, (x,))
    assert program.inputs[0].dtype == activation.removeprefix("q")
    ints = program.quantize(x.numpy())
    to_onnx(program, tmp_path / "a.onnx")
    (expected,) = interpret(program, *ints)
    assert np.array_equal(program.run(*ints)[0], expected)
    assert np.array_equal(OnnxRunner.load(tmp_path / "a.onnx", threads=1).run(*ints)[0], expected)
    with torch.no_grad():
        theirs = prepared.model(x).numpy()
    steps = np.abs(program.dequantize([expected])[0] - theirs) / program.outputs[0].scale[0]
    assert steps.max() <= (1.001 if activation != "qint16" else 3)


def test_dropout_is_gone(settled):
    class Net(nn.Module):
        def __init__(self, dropping):
            super().__init__()
            self.dropping = dropping
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)
            self.dropout = nn.Dropout(0.5) if dropping else nn.Identity()

        def forward(self, x):
            x = self.dropout(self.a(x))
            if self.dropping:
                x = F.dropout2d(x, 0.5, self.training)
            return self.b(x)

    x = torch.randn(1, 3, 8, 8)
    programs = []
    for dropping in (True, False):
        torch.manual_seed(0)
        programs.append(lower(settled(Net(dropping), x), (x,)))
    with_dropout, without = programs
    assert [op.kind for op in with_dropout.ops] == [op.kind for op in without.ops]
    results = [p.run(*p.quantize(x.numpy()))[0] for p in programs]
    np.testing.assert_array_equal(*results)


# -- refusals ----------------------------------------------------------------------------------


class Running(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.a(x).cumprod(1)
        return self.b(F.adaptive_avg_pool2d(x, 3))


def test_every_op_is_reported_with_module_line_and_fix(settled):
    x = torch.randn(1, 3, 8, 8)
    prepared = settled(Running(), x)
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (x,))
    first = caught.value.diagnostics[0]
    assert first.code == "QS701"
    assert "cumprod" in first.message
    assert first.help
    assert first.span is not None
    assert first.span.file.endswith("test_lower.py")


def test_two_unlowerable_ops_are_reported_together(settled):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(8, 4, 1)

        def forward(self, x):
            x = self.a(x)
            smooth = torch.cumprod(x, 1)
            return self.b(torch.cat([smooth, torch.logcumsumexp(x, 1)], 1))

    x = torch.randn(1, 3, 8, 8)
    with pytest.raises(DiagnosticError) as caught:
        lower(settled(Net(), x), (x,))
    messages = [d.message for d in caught.value.diagnostics]
    assert len(messages) == 2
    assert "cumprod" in messages[0]
    assert "logcumsumexp" in messages[1]


def test_a_float_layer_in_the_middle(settled):
    x = torch.randn(1, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1))
    qconfig = {"": "horizon_qat", "module_name": {"1": None}}
    with pytest.raises(DiagnosticError) as caught:
        lower(settled(net, x, qconfig=qconfig), (x,))
    assert "QS702" in {d.code for d in caught.value.diagnostics}


def test_float_before_the_port(settled):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.body = nn.Sequential(nn.Conv2d(3, 4, 1))

        def forward(self, x):
            return self.body(x / 255)

    x = torch.randn(1, 3, 8, 8)
    prepared = settled(Net(), x, modules={"body": {"quantize_output": False}})
    program = lower(prepared, (x,))
    assert [port.name for port in program.inputs] == ["truediv"]
    assert program.tree == {HOST: 0}


def test_never_observed(settled):
    from qatspec.prepare import prepare

    x = torch.randn(1, 3, 8, 8)
    prepared = prepare(nn.Sequential(nn.Conv2d(3, 4, 1)), (x,), qconfig="horizon_qat")
    with pytest.raises(DiagnosticError) as caught:
        lower(prepared, (x,))
    assert caught.value.diagnostics[0].code == "QS705"
