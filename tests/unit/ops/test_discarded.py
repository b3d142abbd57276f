"""Constants outside the range of what they join: discarded by maxima and bounds, or refused."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.referee import interpret

INF = float("inf")


class Net(nn.Module):
    def __init__(self, function, **own):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.o, self.function = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 2, 1), function
        for name, value in own.items():
            self.register_buffer(name, value) if isinstance(value, torch.Tensor) else setattr(
                self, name, value
            )

    def forward(self, x):
        return self.o(self.function(self, self.c(x)))


def same_pool(net, y, value):
    return F.max_pool2d(F.pad(F.relu(y), (0, 1, 0, 1), value=value), 3, 2)


DISCARDED = {
    "max pool": same_pool,
    "of both signs": lambda net, y, v: F.max_pool2d(F.pad(y, (1, 1, 1, 1), value=v), 3, 1),
    "a module": lambda net, y, v: F.max_pool2d(net.pad(y), 3, 2),
    "through moves": lambda net, y, v: F.max_pool2d(
        F.pad(y, (1, 1, 1, 1), value=v).transpose(2, 3).contiguous(), 2
    ),
    "amax": lambda net, y, v: F.pad(y, (2, 0, 0, 0), value=v).amax((2, 3), keepdim=True),
    "adaptive": lambda net, y, v: F.adaptive_max_pool2d(F.pad(y, (1, 0, 1, 0), value=v), 4),
    "relu": lambda net, y, v: F.relu(F.pad(y, (1, 1, 1, 1), value=v)),
    "clamp": lambda net, y, v: F.pad(y, (1, 1, 1, 1), value=v).clamp(min=-0.5),
    "maximum": lambda net, y, v: torch.maximum(y, torch.tensor(v)),
    "minimum": lambda net, y, v: torch.minimum(torch.tensor(-v), y),
    "bound": lambda net, y, v: y.clamp(min=v, max=-v),
}


def fake_quantized(net, x):
    made = prepare(net, (x,), qconfig="horizon_qat")
    with torch.no_grad():
        made.model(x)
        set_stage(made, "qat")
        set_stage(made, "eval")
        return made, made.model(x)


@pytest.mark.parametrize("value", [-INF, -1e30, -1e4, -100.0, -0.4])
@pytest.mark.parametrize("name", DISCARDED)
@torch.no_grad()
def test_discarded(name, value, tmp_path):
    function = DISCARDED[name]
    own = {"pad": nn.ConstantPad2d(1, value)} if name == "a module" else {}
    net = Net(lambda net, y: function(net, y, value), **own).eval()
    x = torch.randn(2, 3, 16, 16)
    real = net(x)
    made, faked = fake_quantized(net, x)
    assert (faked - real).norm() < 0.04 * real.norm()
    program = lower(made, (x,))
    integers = program.quantize(x.numpy())
    referee = interpret(program, *integers)
    to_onnx(program, tmp_path / "converted.onnx")
    for way in (program, OnnxRunner.load(tmp_path / "converted.onnx")):
        assert np.array_equal(way.run(*integers)[0], referee[0])
    bound = 2.01 * float(np.max(program.outputs[0].scale))  # two layers, each within a step
    assert np.abs(program.dequantize(referee)[0] - faked.numpy()).max() <= bound
    export_qat_onnx(made, tmp_path / "qat.onnx", (x,))
    session = onnxruntime.InferenceSession(tmp_path / "qat.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(found - faked.numpy()).max() <= bound


def masked(net, y):
    scores = y.flatten(2) + net.mask
    return (F.softmax(scores, -1) * F.relu(scores)).view_as(y)


def masked_behind(net, y):
    scores = y.flatten(2)
    p = F.softmax(scores, -1) * (net.mask == 0).float()
    return (p / p.sum(-1, keepdim=True) * F.relu(scores)).view_as(y)


#: what is refused, and what its help says to write.
REFUSED = {
    "a conv reads it": (
        lambda net, y: F.avg_pool2d(F.pad(y, (1, 1, 1, 1), value=net.far), 2),
        lambda net, y: F.avg_pool2d(F.max_pool2d(F.pad(y, (1, 1, 1, 1), value=net.far), 3, 1), 2),
    ),
    "a window of padding alone": (
        lambda net, y: F.max_pool2d(F.pad(y, (2, 2, 2, 2), value=net.far), 2),
        lambda net, y: F.max_pool2d(F.pad(y, (1, 1, 1, 1), value=net.far), 2),
    ),
    "it leaves": (
        lambda net, y: F.pad(y, (1, 1), value=net.far), lambda net, y: F.pad(y, (1, 1), value=-1.0)
    ),
    "a sum": (lambda net, y: y + net.far, lambda net, y: y - 1.0),
    "a mask": (masked, masked_behind),
    "cat": (
        lambda net, y: F.max_pool2d(torch.cat([y, torch.full_like(y[:, :, :1], net.far)], 2), 2),
        lambda net, y: F.max_pool2d(F.pad(y, (0, 0, 0, 1), value=net.far), 2),
    ),
    "masked_fill": (
        lambda net, y: y.flatten(2).masked_fill(net.mask != 0, net.far).view_as(y),
        lambda net, y: y.flatten(2).masked_fill(net.mask != 0, -1.0).view_as(y),
    ),
    "where": (
        lambda net, y: F.relu(
            torch.where(net.mask == 0, y.flatten(2), torch.tensor(net.far))
        ).view_as(y),
        lambda net, y: F.relu(y),
    ),
    "maximum of two tensors": (
        lambda net, y: torch.maximum(y, net.mask.view(1, 16, 16)),
        lambda net, y: torch.maximum(y, net.mask.view(1, 16, 16).clamp(min=-1.0)),
    ),
}  # fmt: skip


@pytest.mark.parametrize("far", [-INF, -1e9, -1e4])
@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, far):
    x = torch.randn(2, 3, 16, 16)
    mask = torch.zeros(256)
    mask[100:] = far
    refused, way_out = (Net(f, far=far, mask=mask).eval() for f in REFUSED[name])
    with pytest.raises(DiagnosticError) as error:
        prepare(refused, (x,), qconfig="horizon_qat")
    (problem,) = error.value.diagnostics
    assert problem.code == "QS613" and problem.span.file.endswith("test_discarded.py")
    with torch.no_grad():
        real = way_out(x)
        made, faked = fake_quantized(way_out, x)
    assert (faked - real).norm() < 0.1 * real.norm()
    lower(made, (x,))


def test_a_float_part_may_hold_any_constant():
    net = Net(masked, mask=torch.full((256,), -1e9)).eval()
    prepare(net, (torch.randn(2, 3, 16, 16),), qconfig="horizon_qat", modules={"c": {}})


WARNED = {
    "a mask": lambda net, y: masked(net, y),
    "masked_fill": lambda net, y: F.relu(y.flatten(2).masked_fill(net.mask != 0, -100.0)).view_as(
        y
    ),
    "where": lambda net, y: F.relu(
        torch.where(net.mask == 0, y.flatten(2), torch.tensor(-100.0))
    ).view_as(y),
    "cat": lambda net, y: torch.cat([y, torch.full_like(y[:, :, :1], -100.0)], 2),
    "pad": lambda net, y: F.pad(y, (1, 1), value=-100.0),
    "a mask of an input": lambda net, y: F.softmax(y + (1 - y.sigmoid()) * -10000.0, -1),
}
QUIET = {
    "a shift": lambda net, y: y - 100.0,
    "means": lambda net, y: y - torch.tensor([123.7, 116.3, 103.5, 99.0]).view(4, 1, 1),
    "a small mask": lambda net, y: (y.flatten(2) + net.mask / 10).view_as(y),
    "discarded": lambda net, y: F.max_pool2d(F.pad(y, (1, 1), value=-100.0), 3, 1),
    "a bound": lambda net, y: y.clamp(min=-100.0),
    "a small factor of a mask": lambda net, y: F.softmax(y + (1 - y.sigmoid()) * -24.0, -1),
    "a factor": lambda net, y: F.relu(y + (1 - y.sigmoid()) * -10000.0),
}


def _warnings(function):
    mask = torch.zeros(256)
    mask[100:] = -100.0
    made = prepare(
        Net(function, mask=mask).eval(), (torch.randn(2, 3, 16, 16),), qconfig="horizon_qat"
    )
    return [w for w in made.warnings if w.code == "QS613"]


@pytest.mark.parametrize("name", WARNED)
def test_a_constant_that_may_take_the_range(name):
    (found,) = _warnings(WARNED[name])
    assert found.severity == "warning" and "-100" in found.message and found.help and found.span


@pytest.mark.parametrize("name", QUIET)
def test_constants_that_are_not_told(name):
    assert not _warnings(QUIET[name])


def test_a_mask_that_nothing_quantized_reads():
    """What runs on the host in float may use any constant."""
    net = Net(lambda net, y: y.masked_fill(y > 0, -INF).topk(3, dim=1)[0].topk(2, dim=1)[1])
    net.o = nn.Identity()
    prepare(net.eval(), (torch.randn(2, 3, 16, 16),), qconfig="horizon_qat")
