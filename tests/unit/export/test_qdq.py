"""The Q/DQ file: what it holds, and that it agrees with the fake-quant model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.export.runner import saturates
from qatspec.export.saturation import PRECISION
from qatspec.lower import lower
from qatspec.referee import interpret
from tests.nets import Everything, check_onnx

onnxruntime = pytest.importorskip("onnxruntime")


def run(path, *inputs, optimized=True):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, [i.numpy() for i in inputs], strict=True)))


def flat(outputs):
    return [*outputs["maps"], outputs["fc"], outputs["line"]]


def test_agrees_with_fake_quant(everything, tmp_path):
    prepared, x = everything
    path = tmp_path / "a-qat.onnx"
    export_qat_onnx(prepared, path)
    with torch.no_grad():
        expected = flat(prepared.model(x))
    for found, wanted in zip(run(path, x, optimized=False), expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < 1e-2 * wanted.abs().max()
    for found, wanted in zip(run(path, x), expected, strict=True):
        assert np.abs(found - wanted.numpy()).max() < 5e-2 * wanted.abs().max()


@pytest.mark.parametrize("kind", ["lsq", "pact"])
def test_learned_scales_are_written(settled, tmp_path, kind):
    """They are parameters, which numpy does not take as they are."""
    net, x = Everything(), torch.randn(2, 3, 32, 32)
    rule = {"activation": {"fake_quant": kind}, "weight": {"fake_quant": kind, "ch_axis": 0}}
    prepared = settled(net, x, qconfig={"": rule})
    export_qat_onnx(prepared, tmp_path / "a.onnx")
    with torch.no_grad():
        wanted = flat(prepared.model(x))
    for got, expected in zip(run(tmp_path / "a.onnx", x, optimized=False), wanted, strict=True):
        assert np.abs(got - expected.numpy()).max() < 1e-2 * expected.abs().max()
    to_onnx(lower(prepared, (x,)), tmp_path / "b.onnx")


def test_one_layer_is_within_one_step(settled, tmp_path):
    x = torch.randn(2, 3, 16, 16)
    net = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU())
    prepared = settled(net, x, quantize_output=True)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    with torch.no_grad():
        wanted = prepared.model(x).numpy()
    step = lower(prepared, (x,)).outputs[0].scale[0]
    for optimized in (False, True):
        (found,) = run(tmp_path / "a.onnx", x, optimized=optimized)
        assert np.abs(found - wanted).max() <= step * 1.001


def test_the_graph_is_what_contracts_18_says(everything, tmp_path):
    prepared, x = everything
    export_qat_onnx(prepared, tmp_path / "a.onnx")
    model = onnx.load(tmp_path / "a.onnx")
    check_onnx(tmp_path / "a.onnx")
    graph, constants = model.graph, {i.name: i for i in model.graph.initializer}
    assert model.opset_import[0].version == 17
    assert graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    assert "BatchNormalization" not in {n.op_type for n in graph.node}
    assert "stem.0.weight" in constants
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not onnx.numpy_helper.to_array(constants[node.input[2]]).any()
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weight = constants[node.input[0]]
            scale = constants[node.input[1]]
            assert {a.name: a.i for a in node.attribute} == {"axis": 0}
            assert weight.data_type == onnx.TensorProto.INT8
            assert scale.dims[0] == weight.dims[0]
        if node.op_type == "Conv":
            assert constants[node.input[2]].data_type == onnx.TensorProto.FLOAT
    wanted = run(tmp_path / "a.onnx", x)
    for rows in ([1], [1, 0, 1]):  # other batches
        for found, whole in zip(run(tmp_path / "a.onnx", x[rows]), wanted, strict=True):
            assert np.abs(found - whole[rows]).max() < 1e-2 * np.abs(whole).max()


@pytest.mark.parametrize(("dtype", "stored"), [("qint16", "INT16"), ("qint4", "INT4")])
def test_wide_and_narrow_dtypes_raise_the_opset(dtype, stored, settled, tmp_path):
    x = torch.randn(1, 3, 8, 8)
    qconfig = {"": {"activation": {"dtype": "qint8"}, "weight": {"dtype": dtype}}}
    prepared = settled(nn.Sequential(nn.Conv2d(3, 4, 3)), x, qconfig=qconfig)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    model = onnx.load(tmp_path / "a.onnx")
    assert model.opset_import[0].version == 21
    assert getattr(onnx.TensorProto, stored) in {i.data_type for i in model.graph.initializer}
    with torch.no_grad():
        wanted = prepared.model(x).numpy()
    assert np.abs(run(tmp_path / "a.onnx", x)[0] - wanted).max() < 1e-3
    with pytest.raises(DiagnosticError) as caught:
        export_qat_onnx(prepared, tmp_path / "b.onnx", (x,), opset=17)
    assert caught.value.diagnostics[0].code == "QS720"
    assert not (tmp_path / "b.onnx").exists()


def test_an_op_without_a_writer(settled, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Conv2d(3, 4, 1)

        def forward(self, x):
            return torch.cumprod(self.a(x), 1)

    x = torch.randn(1, 3, 8, 8)
    prepared = settled(Net(), x, quantize_output=True)
    with pytest.raises(DiagnosticError) as caught:
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    (found,) = caught.value.diagnostics
    assert found.code == "QS724"
    assert "cumprod" in found.message


def test_converted_equals_the_referee(everything, tmp_path):
    prepared, x = everything
    program = lower(prepared, (x,))
    to_onnx(program, tmp_path / "a-converted.onnx")
    check_onnx(tmp_path / "a-converted.onnx")
    runner = OnnxRunner.load(tmp_path / "a-converted.onnx")
    ints = runner.quantize(x.numpy())
    for found, wanted in zip(runner.run(*ints), interpret(program, *ints), strict=True):
        assert found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)
    for mine, theirs in zip(
        runner.dequantize(runner.run(*ints)), program.dequantize(program.run(*ints)), strict=True
    ):
        assert np.array_equal(mine, theirs)


class Convs(nn.Module):
    """Convolutions with every clamp behind them, a pool, a linear layer; nothing is added."""

    def __init__(self):
        super().__init__()
        self.a, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.b, self.c = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.Conv2d(8, 8, 1)
        self.d, self.fc = nn.Conv2d(8, 4, 3, dilation=2), nn.Linear(4, 5)

    def forward(self, x):
        x = torch.relu(self.norm(self.a(x)))
        x = nn.functional.hardtanh(self.c(nn.functional.relu6(self.b(x))))
        x = self.d(nn.functional.max_pool2d(x, 2))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class Sums(Convs):
    """The same with sums behind a convolution, behind its clamp, and in front of one."""

    def forward(self, x):
        x = torch.relu(self.norm(self.a(x)))
        x = self.c(nn.functional.relu6(self.b(x)) + x) + x
        x = torch.relu(self.c(x) + x)
        x = self.d(nn.functional.max_pool2d(x, 2))
        return self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


@pytest.mark.parametrize(
    ("net", "march", "kernels"),
    [
        (Convs, None, {"QLinearConv": 4, "QGemm": 1}),
        (Convs, "onnxruntime", {"QLinearConv": 4, "QGemm": 1}),
        (Sums, None, {"QLinearConv": 3, "FusedConv": 2, "QLinearAdd": 1, "QGemm": 1}),
        (Sums, "onnxruntime", {"QLinearConv": 5, "QLinearAdd": 3, "QGemm": 1}),
    ],
)
def test_onnxruntime_runs_weighted_ops_in_integers(net, march, kernels, settled, tmp_path):
    """The kernels of its optimized graph: a sum in the accumulator is the one thing in float, and
    the march `onnxruntime` asks for none."""
    x = torch.randn(2, 3, 32, 32)
    prepared = settled(net(), x, quantize_output=True, march=march)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # as it is on ARM
    if march and saturates():
        options.add_session_config_entry(PRECISION, "1")
    session = onnxruntime.InferenceSession(
        tmp_path / "a.onnx", options, providers=["CPUExecutionProvider"]
    )
    made = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    products = ("Conv", "FusedConv", "Gemm", "MatMul", "Add", "QLinearConv", "QLinearAdd", "QGemm")
    assert {op: made.count(op) for op in products if op in made} == kernels
    with torch.no_grad():
        expected = prepared.model(x).numpy()
    step = lower(prepared, (x,)).outputs[0].scale[0]
    for rows in ([0, 1], [1], [1, 0, 1]):
        (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()[rows]})
        assert np.abs(found - expected[rows]).max() <= step * 2.001


def test_no_address_of_this_process_is_in_the_file(tmp_path, everything):
    """Equal bytes in every process: `<function relu at 0x7f...>` is not a name."""
    prepared, x = everything
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    nodes = onnx.load(tmp_path / "qat.onnx").graph.node
    assert any(node.doc_string == "torch.nn.functional.relu" for node in nodes)
    assert b" at 0x" not in (tmp_path / "qat.onnx").read_bytes()
