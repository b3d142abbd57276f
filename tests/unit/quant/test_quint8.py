"""Activations of 0 to 255: which tensors have them, and that all forms of a net stay equal."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import (
    DiagnosticError,
    QConfig,
    QSpec,
    compile as compile_program,
    export_qat_onnx,
    interpret,
    load,
    lower,
)
from qatspec.export import OnnxRunner, to_onnx
from qatspec.quant.fake_quant import FakeQuantize
from tests.unit.export.test_float_ops import Op
from tests.unit.export.test_qdq import run

QUINT8 = {"": {"activation": {"dtype": "quint8"}}}


class Net(nn.Module):
    """A conv, a function of its result, and a conv that reads it as images."""

    def __init__(self, function, channels=6):
        super().__init__()
        self.a, self.f = nn.Conv2d(4, 6, 3, padding=1), Op(function)
        self.b = nn.Conv2d(channels, 5, 1)

    def forward(self, x):
        return self.b(self.f(self.a(x)))


def dtypes(prepared):
    return [
        m.qspec.dtype
        for m in prepared.model.modules()
        if isinstance(m, FakeQuantize) and m.qspec.ch_axis is None
    ]


IN, OUT = ["qint8"], ["qint8"]
U, S = "quint8", "qint8"
#: function, channels that it gives, dtypes of the tensors between input and output
NETS = {
    "relu": (F.relu, 6, [U]),
    "relu6": (lambda x: F.relu6(9 * x), 6, [S, S, U]),
    "from above 0": (lambda x: torch.clamp(x, 0.1, 0.9), 6, [U]),
    "from below 0": (lambda x: torch.clamp(x, -0.1, 0.9), 6, [S]),
    "no relu": (lambda x: F.leaky_relu(x), 6, [S, S]),
    "max pool": (lambda x: F.max_pool2d(F.relu(x), 3, 2, 1), 6, [U]),
    "average pool": (lambda x: F.avg_pool2d(F.relu(x), 2), 6, [U, U]),
    "mean": (lambda x: F.relu(x).mean((2, 3), keepdim=True), 6, [U, U]),
    "resize": (lambda x: F.interpolate(F.relu(x), scale_factor=2), 6, [U]),
    "bilinear": (lambda x: F.interpolate(F.relu(x), scale_factor=2, mode="bilinear"), 6, [U, U]),
    "pad": (lambda x: F.pad(F.relu(x), (1, 2, 0, 1)), 6, [U]),
    "residual": (lambda x: F.relu(F.relu(x) + x), 6, [S, U]),
    "sum of both": (lambda x: F.relu(x) + torch.tanh(x), 6, [S, S, S]),
    "joined": (lambda x: torch.cat([F.relu(x), F.relu6(x)], 1), 12, [S, U, U]),
    "joined with signed": (lambda x: torch.cat([F.relu(x), x], 1), 12, [S, S]),
    "product": (lambda x: F.relu(x) * torch.sigmoid(x), 6, [S, S, S]),
    "table": (lambda x: F.silu(F.relu(x)), 6, [U, S]),
    "matrices": (lambda x: F.relu(x) @ F.relu(x).transpose(2, 3), 6, [S, S]),
    "softmax": (lambda x: torch.softmax(F.relu(x), 1), 6, [U, S]),
    "argument of a clamp": (lambda x: torch.clamp(F.max_pool2d(F.relu(x), 2), max=0.5), 6, [U, U]),
    "transposed": (lambda x: F.relu(x).transpose(2, 3), 6, [U]),
    "split": (lambda x: F.relu(x).chunk(2, 1)[0], 3, [U]),
}


@pytest.mark.parametrize("name", NETS)
def test_all_forms_are_equal(name, settled, tmp_path):
    torch.manual_seed(0)
    function, channels, between = NETS[name]
    x = torch.randn(2, 4, 8, 8)
    prepared = settled(Net(function, channels), x, qconfig=QUINT8, quantize_output=True)
    assert sorted(dtypes(prepared)) == sorted(IN + between + OUT)
    program = lower(prepared, (x,))
    used = {value.dtype for value in program.values.values()}
    assert ("uint8" in used) == (U in between)
    images = 2 * torch.randn(3, 4, 8, 8)
    ints = program.quantize(images.numpy())
    (integers,) = program.run(*ints)
    assert np.array_equal(integers, interpret(program, *ints)[0])
    to_onnx(program, tmp_path / "exact.onnx")
    assert np.array_equal(integers, OnnxRunner.load(tmp_path / "exact.onnx").run(*ints)[0])
    to_onnx(program, tmp_path / "fast.onnx", exact=False)
    fast = OnnxRunner.load(tmp_path / "fast.onnx").run(*ints)[0]
    assert np.abs(fast.astype(int) - integers).max() <= 2
    fake, step = prepared.model(images).detach().numpy(), program.outputs[0].scale[0]
    assert np.abs(program.dequantize([integers])[0] - fake).max() <= 1.5 * step
    forms = []
    for march in (None, "onnxruntime"):
        path = tmp_path / f"{march}.onnx"
        export_qat_onnx(dataclasses.replace(prepared, march=march), path, (x,))
        forms.append(run(path, images, optimized=False)[0])
        assert np.abs(forms[-1] - fake).max() <= step * 1.5
    assert np.array_equal(*forms)


def test_twice_the_resolution(settled):
    """The largest number gets 255 instead of 127."""
    x = torch.randn(2, 4, 8, 8)
    scales = {}
    for dtype in ("qint8", "quint8"):
        torch.manual_seed(0)
        prepared = settled(
            Net(F.relu), x, qconfig={"": {"activation": {"dtype": dtype, "observer": "min_max"}}}
        )
        (scales[dtype],) = (
            m.scale.item()
            for n, m in prepared.model.named_modules()
            if isinstance(m, FakeQuantize) and n == "a_activation_post_process_0"
        )
    assert scales["qint8"] == pytest.approx(2 * scales["quint8"])


def test_no_clip_is_left(settled, tmp_path):
    """The rounding itself bounds a relu, and a relu6 whose range ends at 6."""
    import onnx

    x = torch.randn(2, 4, 8, 8)
    net = nn.Sequential(nn.Conv2d(4, 8, 3), nn.ReLU6(), nn.Conv2d(8, 8, 3), nn.ReLU())
    with torch.no_grad():
        net[0].weight.mul_(100)
    prepared = settled(net, x, qconfig=QUINT8, quantize_output=True, march="onnxruntime")
    to_onnx(lower(prepared, (x,)), tmp_path / "fast.onnx", exact=False)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    for name in ("fast", "qat"):
        kinds = {n.op_type for n in onnx.load(tmp_path / f"{name}.onnx").graph.node}
        assert not kinds & {"Clip", "Relu"}


def test_a_chip_without_unsigned_integers_refuses(settled):
    """The compiler names the op; a spec is refused before (QS807)."""
    x = torch.randn(2, 4, 8, 8)
    program = lower(settled(Net(F.relu), x, qconfig=QUINT8, march="bayes"), (x,))
    with pytest.raises(DiagnosticError) as caught:
        compile_program(program, "bayes")
    assert {d.code for d in caught.value.diagnostics} == {"QS801"}
    assert "uint8" in caught.value.diagnostics[0].message


def test_weights_are_signed(settled):
    both = {"": {"activation": {"dtype": "quint8"}, "weight": {"dtype": "quint8"}}}
    with pytest.raises(DiagnosticError) as caught:
        settled(Net(F.relu), torch.randn(2, 4, 8, 8), qconfig=both)
    assert caught.value.diagnostics[0].code == "QS204"
    config = QConfig(activation=QSpec(dtype="quint8"), weight=QSpec(dtype="quint8"))
    with pytest.raises(DiagnosticError, match="weights cannot be quint8"):
        settled(Net(F.relu), torch.randn(2, 4, 8, 8), qconfig=config)


@pytest.mark.parametrize("qconfig", ["onnxruntime_qat", '{"": onnxruntime_qat}', "QUINT8"])
def test_the_advice_of_qs807_holds(qconfig, tmp_path):
    """What the message says to write is taken."""
    text = (Path(__file__).parents[3] / "specs" / "quickstart.yaml").read_text()
    written = qconfig.replace("QUINT8", '{"": {activation: {dtype: quint8}}}')
    bad = tmp_path / "bad.yaml"
    bad.write_text(text.replace("horizon_calibrated", written))
    with pytest.raises(DiagnosticError) as caught:
        load(bad)
    (found,) = caught.value.diagnostics
    assert found.code == "QS807"
    advice = re.search("write `(.*)`, or", found.help)[1]
    lines, span = bad.read_text().splitlines(keepends=True), found.span
    line = lines[span.line - 1]
    lines[span.line - 1] = line[: span.col - 1] + advice + line[span.end_col - 1 :]
    good = tmp_path / "good.yaml"
    good.write_text("".join(lines))
    load(good)
