"""What is measured when a file for onnxruntime is written: its time, and each layer's integers."""

from __future__ import annotations

import io
import json

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qatspec.api import compile as compile_program, export_qat_onnx, layer_exactness, lower
from qatspec.export import exactness
from qatspec.export.fast import products
from qatspec.export.float32 import without_quantization
from qatspec.registry import registry
from tests.unit.export.test_qdq import run

onnxruntime = pytest.importorskip("onnxruntime")


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)
        self.pool, self.tail = nn.MaxPool2d(3, 2, 1), nn.Conv2d(16, 5, 1)

    def forward(self, x):
        x = torch.relu(self.a(x))
        return self.tail(self.pool(torch.relu(self.b(x) + x)))


class Classifier(nn.Module):
    """Its last layer is an integer kernel in the QAT ONNX, with a bias that has no zero point."""

    def __init__(self, bias):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(3, 8, 3, bias=bias), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
            nn.Flatten(), nn.Linear(8, 5, bias=bias),
        )  # fmt: skip

    def forward(self, x):
        return self.net(x)


@pytest.mark.parametrize("qconfig", ["horizon_qat", "onnxruntime_qat"])
@pytest.mark.parametrize("bias", [True, False])
def test_a_classifier_without_quantization(bias, qconfig, settled, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 12)
    prepared = settled(Classifier(bias), x, march="onnxruntime", qconfig=qconfig)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    bare = without_quantization(onnx.load(tmp_path / "qat.onnx"))
    onnx.checker.check_model(bare, full_check=True)
    onnx.save(bare, tmp_path / "bare.onnx")
    (found,), (wanted,) = (run(tmp_path / name, x) for name in ("bare.onnx", "qat.onnx"))
    assert found.shape == wanted.shape
    if qconfig == "horizon_qat":  # quint8 alone clamps: there is no relu to be kept
        np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())


@pytest.fixture(params=["horizon_qat", "onnxruntime_qat"])
def prepared(request, settled):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 12, 12)
    return settled(Net(), x, march="onnxruntime", qconfig=request.param), x


def test_the_file_without_quantization_is_the_float_net(prepared, tmp_path):
    prepared, x = prepared
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    bare = without_quantization(onnx.load(tmp_path / "qat.onnx"))
    onnx.checker.check_model(bare, full_check=True)
    kinds = {node.op_type for node in bare.graph.node}
    assert not kinds & {"QuantizeLinear", "DequantizeLinear"}
    types = {tensor.data_type for tensor in bare.graph.initializer}
    assert types <= {onnx.TensorProto.FLOAT, onnx.TensorProto.INT64}
    onnx.save(bare, tmp_path / "bare.onnx")
    (found,) = run(tmp_path / "bare.onnx", x)
    (wanted,) = run(tmp_path / "qat.onnx", x)
    assert found.shape == wanted.shape and found.dtype == np.float32


def test_every_layer_is_compared(prepared):
    prepared, x = prepared
    program = lower(prepared, (x,))
    inputs = [program.quantize(torch.randn(1, 3, 12, 12).numpy()) for _ in range(3)]
    found = layer_exactness(program, inputs)
    sizes = {name: np.prod(program.values[name].shape) for name in found}
    assert {name: layer.compared for name, layer in found.items()} == {
        name: 3 * size for name, size in sizes.items()
    }
    assert len(found) == sum(op.kind == "requant" for op in program.ops)
    assert all(layer.max_lsb <= 1 and layer.share > 0.99 for layer in found.values())


def test_a_layer_that_differs_is_found(prepared, monkeypatch):
    """Another zero point in one layer: it differs, and the layers behind it do not."""
    prepared, x = prepared
    program = lower(prepared, (x,))
    real, calls = products.requantized_conv, []

    def shifted(emit, op, weight, requant, factor):
        calls.append(requant.output)
        return real(emit, op, weight, requant, factor * (1.1 if len(calls) == 1 else 1.0))

    monkeypatch.setattr(products, "requantized_conv", shifted)
    found = exactness.layer_exactness(program, [program.quantize(x.numpy())])
    differing = [name for name, layer in found.items() if layer.share < 0.95]
    assert differing == calls[:1]


def test_what_is_measured(prepared, tmp_path):
    prepared, x = prepared
    program = lower(prepared, (x,))
    artifact = compile_program(program, "onnxruntime")
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    bare = without_quantization(onnx.load(tmp_path / "qat.onnx")).SerializeToString()
    inputs = [program.quantize(x[:1].numpy())]
    found = registry().march("onnxruntime").measure(program, artifact, inputs, bare)
    perf = json.loads(json.dumps(found["perf"]))
    assert perf["source"] == "measured" and perf["threads"] == perf["batch"] == 1
    assert perf["FPS"] == pytest.approx(1000 / perf["latency (ms)"], rel=1e-2)
    low, high = perf["latency, quartiles (ms)"]
    assert 0 < low <= perf["latency (ms)"] <= high
    assert perf["float32 latency (ms)"] > 0 and perf["float32 CPU time / CPU time"] > 0
    assert "float32" in perf["note"]
    assert perf["optimized graph"]["QLinearConv"] == 2
    manifest = found["manifest"]
    assert manifest["exactness"]["layers"] == 3 and manifest["exactness"]["images"] == 1
    assert manifest["max_lsb"] <= 127 * 16
    exact = compile_program(program, "onnxruntime", opt="exact")
    found = registry().march("onnxruntime").measure(program, exact, inputs, None)
    assert "float32" not in str(found["perf"])
    assert set(found) == {"perf"} and "float32 FPS" not in found["perf"]


@pytest.mark.parametrize("opt", ["fast", "exact"])
def test_a_fixed_batch(opt, prepared):
    """The file takes two images a run; any number of images goes through it."""
    prepared, x = prepared
    program = lower(prepared, (x,))
    fixed = compile_program(program, "onnxruntime", opt=opt, batch=2)
    file = onnx.load(io.BytesIO(fixed.sections["model.onnx"]))
    for port in (*file.graph.input, *file.graph.output):
        assert port.type.tensor_type.shape.dim[0].dim_value == 2
    ints = program.quantize(torch.randn(5, 3, 12, 12).numpy())
    free = compile_program(program, "onnxruntime", opt=opt)
    for one, other in zip(fixed.run(*ints), free.run(*ints), strict=True):
        assert np.array_equal(one, other)
