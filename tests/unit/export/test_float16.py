"""float16 of what stays in float: where it goes, how far it is, and a fixed batch."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.export.float16 import LARGEST, distances, in_float16
from qatspec.export.host import HostRunner, export_host, network_feeds
from qatspec.export.qdq import any_batch
from qatspec.graph.deploy import deploy
from qatspec.lower.split import host_parts

onnxruntime = pytest.importorskip("onnxruntime")
COMMON = ("--allow-code", "--workdir", "work", "--device", "cpu")


class Net(nn.Module):
    """Layers in integers, float layers between two of them, and a float head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3))
        self.pool = nn.MaxPool2d(2)
        self.middle = nn.Sequential(nn.Conv2d(8, 8, 1), nn.Hardswish())
        self.tail = nn.Sequential(nn.Conv2d(8, 4, 1), nn.ReLU())

    def forward(self, x):
        return torch.softmax(self.tail(self.middle(self.pool(self.body(x)))).mean((2, 3)), 1)


@pytest.fixture
def mixed(settled, tmp_path):
    """(QAT ONNX with float layers, its path, the prepared model, its input)."""
    x = torch.randn(2, 3, 16, 16)
    prepared = settled(Net(), x, modules={"body": {}, "tail": {}})
    path = tmp_path / "net-qat.onnx"
    export_qat_onnx(prepared, path, (x,))
    return onnx.load(path), path, prepared, x


def types_of(model):
    """Name of each result -> its element type, of a file with casts."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    return {v.name: v.type.tensor_type.elem_type for v in (*graph.value_info, *graph.output)}


def test_float_layers_alone_become_float16(mixed):
    model = mixed[0]
    half = in_float16(model)
    types = types_of(half)
    halves = [
        node.op_type
        for node in half.graph.node
        if node.op_type != "Cast" and types[node.output[0]] == TensorProto.FLOAT16
    ]
    assert halves.count("Conv") == 1 and "Softmax" in halves and "HardSwish" in halves
    assert not {"Relu", "QuantizeLinear", "DequantizeLinear"} & set(halves)
    roundings = [n for n in half.graph.node if n.op_type.endswith("tizeLinear")]
    written = [n for n in model.graph.node if n.op_type.endswith("tizeLinear")]
    assert [n.output for n in roundings] == [n.output for n in written]
    assert [i.name for i in half.graph.input] == [i.name for i in model.graph.input]
    assert all(o.type.tensor_type.elem_type == TensorProto.FLOAT for o in half.graph.output)


def test_the_distance_is_measured_and_small(mixed, tmp_path):
    model, _, _, x = mixed
    feeds = [{"x": x.numpy()}, {"x": 2 * x.numpy()[:1]}]
    ((name, apart),) = distances(model, feeds).items()
    assert name == model.graph.output[0].name and apart.finite
    assert 0 < apart.apart < 0.02 and 0 < apart.largest <= 1


def test_results_are_rounded_to_float16(mixed):
    """What is measured holds for a runtime that keeps float16 between two layers."""
    model, _, _, x = mixed
    rounded = in_float16(model, rounded=True)
    (float_conv,) = [n for n in in_float16(model).graph.node if n.output[0].endswith("float16")
                     and n.op_type == "Conv"]  # fmt: skip
    rounded.graph.output.append(onnx.ValueInfoProto(name=float_conv.output[0]))
    session = onnxruntime.InferenceSession(rounded.SerializeToString())
    numbers = session.run(None, {"x": x.numpy()})[-1]
    assert numbers.dtype == np.float32 and np.unique(numbers).size > 100
    assert np.array_equal(numbers, numbers.astype(np.float16).astype(np.float32))


def test_a_file_of_integers_alone_has_no_float16(settled, tmp_path):
    x = torch.randn(1, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    for quantized in (True, False):
        prepared = settled(net, x, quantize_output=quantized)
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
        assert in_float16(onnx.load(tmp_path / "a.onnx")) is None


def test_what_overflows_is_not_finite(settled, tmp_path):
    class Large(Net):
        def forward(self, x):
            return torch.exp(super().forward(x) * 20) / 1e6

    x = torch.randn(1, 3, 16, 16)
    prepared = settled(Large(), x, modules={"body": {}, "tail": {}})
    host = host_parts(deploy(prepared, (x,)))
    files = export_host(prepared, host, tmp_path, "net")
    assert files[-1].name == "net-post.onnx"
    post = onnx.load(files[-1])
    feed = {
        port.name: np.full([2 if s.dim_param else s.dim_value for s in sizes], 30, np.float32)
        for port in post.graph.input
        for sizes in [port.type.tensor_type.shape.dim]
    }
    feed[next(iter(feed))][:, 0] = 90  # one class is sure
    (apart,) = distances(post, [feed]).values()
    assert not apart.finite and apart.largest > LARGEST / 1e6


def test_constants_beyond_float16_are_its_largest():
    numbers = np.array([1e9, -1e9, 0.5, np.inf], np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "c"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])],
        [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])],
        [onnx.numpy_helper.from_array(numbers, "c")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    (constant,) = in_float16(model).graph.initializer
    assert onnx.numpy_helper.to_array(constant).tolist() == [LARGEST, -LARGEST, 0.5, np.inf]


@pytest.mark.parametrize("images", [1, 3])
def test_a_fixed_batch(mixed, tmp_path, images):
    _, path, prepared, x = mixed
    export_qat_onnx(prepared, tmp_path / "fixed.onnx", (x,), batch=images)
    fixed = onnx.load(tmp_path / "fixed.onnx")
    ports = (*fixed.graph.input, *fixed.graph.output)
    assert [p.type.tensor_type.shape.dim[0].dim_value for p in ports] == [images, images]
    fed = np.random.default_rng(0).normal(size=(images, 3, 16, 16)).astype(np.float32)

    def outputs(model, array):
        data = model if isinstance(model, bytes) else model.SerializeToString()
        return onnxruntime.InferenceSession(data).run(None, {"x": array})[0]

    expected = outputs(path.read_bytes(), fed)
    assert np.array_equal(outputs(fixed, fed), expected)
    with pytest.raises(Exception, match="Got invalid dimensions"):
        outputs(fixed, np.concatenate([fed, fed]))
    twice = outputs(any_batch(fixed), np.concatenate([fed, fed]))
    assert np.array_equal(twice, np.concatenate([expected, expected]))
    assert any_batch(mixed[0]) is mixed[0]


def test_code_for_one_batch_refuses_another(settled, tmp_path):
    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(64, 2)

        def forward(self, x):
            return self.fc(self.conv(x).view(1, -1))

    x = torch.randn(1, 3, 4, 4)
    prepared = settled(Flat(), x)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,), batch=1)
    assert any_batch(onnx.load(tmp_path / "a.onnx")).graph.input[0].type.tensor_type.shape.dim[0]
    with pytest.raises(DiagnosticError) as caught:
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,), batch=2)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code == "QS726" and "`batch: 1`" in diagnostic.help


def test_the_stage_writes_and_measures_them(project):
    project.edit(
        "quantize: {prepare: horizon, quantize_output: false}",
        "quantize: {modules: {stem: {prepare: horizon}}}",
    )
    project.edit("convert: {}", "convert: {float16: true, batch: 2}")
    project.edit("march: bayes", "march: onnxruntime")
    project.edit("compile: {opt: O3}", "compile: {}")
    summary = project.run()
    folder = project.workdir / "convert"
    record = json.loads((folder / "toy-outputs.json").read_text())["float16"]
    assert set(record) == {"toy-qat-float16.onnx", "toy-post-float16.onnx"}
    assert set(record) <= {p.name for p in folder.iterdir()}
    for apart in (output for outputs in record.values() for output in outputs.values()):
        assert 0 < apart["apart"] < 0.01 * apart["largest"]
    assert {a["path"] for a in summary["artifacts"]} >= {f"convert/{name}" for name in record}
    onnx.load(folder / "toy-qat-float16.onnx")
    compared = project.call("compare", "toy.yaml", "--onnx", *COMMON[:3])
    assert compared.returncode == 0, compared.stderr


def test_feeds_of_a_network_behind_the_host(settled, tmp_path):
    class Scaled(Net):
        def forward(self, x):
            return super().forward(x.transpose(2, 3) / 2)

    x = torch.rand(1, 3, 16, 16)
    prepared = settled(Scaled(), x, modules={"body": {}, "tail": {}})
    files = export_host(prepared, host_parts(deploy(prepared, (x,))), tmp_path, "net")
    assert files[0].name == "net-pre.onnx"
    host = HostRunner.load(tmp_path, "net")
    (name,) = [port.name for port in host.pre.get_outputs()]
    (fed,) = network_feeds([name], [x.numpy()], host).values()
    assert np.array_equal(fed, x.numpy().transpose(0, 1, 3, 2) / 2)
