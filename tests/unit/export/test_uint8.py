"""The Q/DQ file with uint8 activations: the integers of the int8 file, whatever the net; and where
sums of its products may saturate."""

from __future__ import annotations

import dataclasses
import itertools
import json

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, runner, to_onnx
from qatspec.export.float32 import without_quantization
from qatspec.export.saturation import PRECISION, pair_bound
from qatspec.lower import lower
from qatspec.ops.convolution import onnx as convolution
from tests.nets import check_onnx
from tests.unit.export.test_float_ops import CASES, Op
from tests.unit.export.test_qdq import run


def both(prepared, folder, *inputs):
    """Paths of the two forms of a model."""
    paths = []
    for march in (None, "onnxruntime"):
        paths.append(folder / f"{march}.onnx")
        export_qat_onnx(dataclasses.replace(prepared, march=march), paths[-1], inputs)
    return paths


def assert_equal(paths, *inputs, within=0.0):
    """Every output of the files as they are written: bit for bit, or within a share of the largest
    number, where the bias of a last linear layer is rounded in the second file."""
    for one, other in zip(*(run(path, *inputs, optimized=False) for path in paths), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        assert np.abs(one - other).max(initial=0) <= within * np.abs(one).max(initial=0)


def pairs_of(path):
    """(op, type of the zero point, zero point) of every Q and DQ of an activation."""
    graph = onnx.load(path).graph
    constants = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    return {
        (n.op_type, constants[n.input[2]].dtype.name, int(constants[n.input[2]].flat[0]))
        for n in graph.node
        if n.op_type in ("QuantizeLinear", "DequantizeLinear") and n.input[0] not in constants
    }


@pytest.mark.parametrize("name", CASES)
def test_op(name, settled, tmp_path):
    shape, layer = CASES[name]
    x = torch.randn(2, *shape)
    prepared = settled(nn.Sequential(layer()), x, quantize_output=True)
    paths = both(prepared, tmp_path, x)
    onnx.shape_inference.infer_shapes(onnx.load(paths[1]), check_type=True, strict_mode=True)
    for batch in (x, torch.randn(3, *shape)):
        assert_equal(paths, batch)
        for one, other in zip(run(paths[1], batch), run(paths[0], batch), strict=True):
            assert np.abs(one - other).max() <= np.abs(other).max() / 20  # optimized


def test_every_op_at_once(everything, tmp_path):
    prepared, x = everything
    paths = both(prepared, tmp_path, x)
    assert_equal(paths, x, within=1e-4)
    assert_equal(paths, torch.cat([x, 3 * x]), within=1e-4)
    check_onnx(paths[1])
    assert pairs_of(paths[0]) == {(op, "int8", 0) for op in ("QuantizeLinear", "DequantizeLinear")}
    assert pairs_of(paths[1]) == {
        (op, "uint8", 128) for op in ("QuantizeLinear", "DequantizeLinear")
    }


CLAMPS = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": lambda x: F.hardtanh(x, -0.3, 0.7),
    "a band above 0": lambda x: torch.clamp(x, 0.21, 0.9),
    "a band below 0": lambda x: torch.clamp(x, -2.0, -0.37),
    "one side": lambda x: torch.clamp(x, max=0.37),
    "the other side": lambda x: torch.clamp(x, min=-0.77),
    "twice": lambda x: F.relu6(F.hardtanh(x, -0.5, 0.5)),
    "read twice": lambda x: F.relu(x) + F.max_pool2d(F.relu(x), 1),
    "kept": lambda x: (lambda y: torch.cat([y, F.relu6(y)], 1))(F.relu(x)),
    "behind a move": lambda x: F.relu(torch.cat([x, x], 1)),
    "of rounded values": lambda x: F.relu(F.max_pool2d(x, 2)),
    "of rounded values, off the grid": lambda x: torch.clamp(F.max_pool2d(x, 2), 0.2, 0.4),
}


PADS = {
    "by 0": lambda x: F.max_pool2d(F.pad(x, (1, 1, 1, 1)), 2),
    "by minus infinity": lambda x: F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=-torch.inf), 3, 2),
    "by a large number below 0": lambda x: F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-1e4), 3, 2),
    "by a number below 0": lambda x: F.max_pool2d(F.pad(x, (1, 0, 1, 0), value=-0.3), 3, 2),
    "by a number": lambda x: F.pad(x, (1, 0, 1, 0), value=0.7),
    "own values": lambda x: F.pad(x, (1, 2, 2, 1), mode="reflect"),
    "around": lambda x: F.pad(x, (1, 2, 2, 1), mode="circular"),
    "cut": lambda x: F.pad(x, (-1, 1, 0, -2)),
}


@pytest.mark.parametrize("name", PADS)
def test_pads(name, settled, tmp_path):
    x = torch.randn(2, 6, 8, 8)
    prepared = settled(nn.Sequential(nn.Conv2d(6, 6, 3), Op(PADS[name])), x, quantize_output=True)
    paths = both(prepared, tmp_path, x)
    assert_equal(paths, x)
    assert_equal(paths, 4 * torch.randn(3, 6, 8, 8))


@pytest.mark.parametrize("name", CLAMPS)
@pytest.mark.parametrize("weighted", [False, True])
def test_clamps(name, weighted, settled, tmp_path):
    torch.manual_seed(1)
    x = torch.randn(2, 6, 8, 8)
    net = nn.Sequential(*[nn.Conv2d(6, 6, 3)] * weighted, Op(CLAMPS[name]))
    prepared = settled(net, x, quantize_output=True)
    paths = both(prepared, tmp_path, x)
    assert_equal(paths, x)
    assert_equal(paths, 4 * torch.randn(3, 6, 8, 8))


@pytest.mark.parametrize(
    "qconfig",
    [
        {"activation": {"dtype": "qint16"}, "weight": {"dtype": "qint8"}},
        {"activation": {"dtype": "qint8"}, "weight": {"dtype": "qint4"}},
        {"activation": {"dtype": "qint8"}, "weight": {"dtype": "qint16"}},
        {"activation": {"dtype": "qint4"}, "weight": {"dtype": "qint8"}},
        {"activation": {"dtype": "qint4"}, "weight": {"dtype": "qint4"}},
    ],
)
def test_other_widths(qconfig, settled, tmp_path):
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 1))
    prepared = settled(net, x, qconfig={"": qconfig}, quantize_output=True)
    paths = both(prepared, tmp_path, x)
    assert_equal(paths, x)
    wide = qconfig["activation"]["dtype"] == "qint16"
    types = {(dtype, zero) for _, dtype, zero in pairs_of(paths[1])}
    assert types == {("int16", 0) if wide else ("uint8", 128)}
    steps = 6 if qconfig["activation"]["dtype"] == "qint4" else 60
    for found, wanted in zip(run(paths[1], x), run(paths[0], x, optimized=False), strict=True):
        assert np.abs(found - wanted).max() <= np.abs(wanted).max() / steps  # a default session


def test_pairs_of_products():
    """The bound against every pair that a kernel may add, in either order of the weight."""
    rng = np.random.default_rng(0)
    for shape in [(4, 3, 3, 3), (4, 1, 3, 3), (5, 7), (2, 1), (3, 2, 5), (2, 1, 1, 1)]:
        weight = rng.integers(-128, 128, shape)
        largest = 0
        for channel in weight:
            for flat in (channel.reshape(-1), np.moveaxis(channel, 0, -1).reshape(-1)):
                pairs = list(itertools.pairwise(flat)) or [(flat[0], 0)]
                largest = max(largest, *(255 * (abs(int(a)) + abs(int(b))) for a, b in pairs))
        assert pair_bound(weight) == largest


@pytest.mark.parametrize(("level", "warned"), [(64, False), (65, True)])
def test_layers_that_may_saturate_are_named(level, warned, settled, tmp_path):
    """Two weights of 64 side by side: 255 * 128 = 32640 fits 16 bits; of 65 they do not."""
    torch.manual_seed(0)
    x = torch.randn(1, 4, 8, 8)
    net = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.ReLU(), nn.Conv2d(2, 2, 1, bias=False))
    with torch.no_grad():
        for conv in (net[0], net[2]):
            conv.weight.zero_()
            conv.weight[:, 0] = 1.275  # the level 127, at the scale 0.01
        net[2].weight[:, 0] = 0.0
        net[2].weight[0, 0], net[2].weight[0, 1] = level / 100, -level / 100
    prepared = settled(net, x, quantize_output=True)
    conv = next(m for n, m in prepared.model.named_modules() if n == "2")
    conv.weight_fake_quant.scale.fill_(0.01)
    assert export_qat_onnx(prepared, tmp_path / "a.onnx", (x,)) == ()  # int8
    found = export_qat_onnx(
        dataclasses.replace(prepared, march="onnxruntime"), tmp_path / "b.onnx", (x,)
    )
    assert [d.code for d in found] == ["QS732"] * warned
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "b.onnx").metadata_props}
    assert json.loads(metadata["qatspec.qat"])["saturating"] == ["2"] * warned
    if warned:
        assert "1 of 2 layers can exceed them: `2`" in found[0].message
        assert "session.x64quantprecision" in found[0].help


class Tied(nn.Module):
    """Layers of equal shape and layers that are called twice: weights and zero points alike."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        x = self.a(F.relu(self.b(F.relu(self.a(x)))))
        return self.fc(F.relu(self.fc(x.mean((2, 3)))))


@pytest.mark.parametrize("inexact", [False, True])
def test_our_own_sessions_do_not_saturate(inexact, settled, tmp_path, monkeypatch):
    """On a CPU whose kernels saturate they ask for others, which load and give the same."""
    if runner.saturates():
        pytest.skip("kernels of this CPU saturate: it has nothing to compare with")
    x = torch.randn(1, 4, 8, 8)
    prepared = settled(Tied(), x, march="onnxruntime")
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    program = lower(prepared, (x,))
    to_onnx(program, tmp_path / "b.onnx")
    wanted = run(tmp_path / "a.onnx", x)
    monkeypatch.setattr(runner, "saturates", lambda: inexact)
    session = runner.open_session((tmp_path / "a.onnx").read_bytes(), 1)
    given = session.get_session_options()
    if inexact:
        assert given.get_session_config_entry(PRECISION) == "1"
    else:
        with pytest.raises(RuntimeError):
            given.get_session_config_entry(PRECISION)
    for found, one in zip(session.run(None, {"x": x.numpy()}), wanted, strict=True):
        assert np.array_equal(found, one)
    ints = program.quantize(x.numpy())
    loaded = OnnxRunner.load(tmp_path / "b.onnx")
    for found, one in zip(loaded.run(*ints), program.run(*ints), strict=True):
        assert np.array_equal(found, one)


def test_a_cpu_that_saturates_is_found(monkeypatch):
    real = runner._session

    class Saturating:
        """16 bits for every sum, unless the session is asked for exact ones."""

        def __init__(self, data, options):
            self.exact = True
            try:
                options.get_session_config_entry(PRECISION)
            except RuntimeError:
                self.exact = False
            self.session = real(data, options)

        def run(self, names, feeds):
            found = self.session.run(names, feeds)
            return found if self.exact else [np.clip(r, -(2**15), 2**15 - 1) for r in found]

    monkeypatch.setattr(runner, "_session", Saturating)
    runner.saturates.cache_clear()
    runner.self_test.cache_clear()
    try:
        assert runner.saturates()
        runner.self_test()
    finally:
        runner.saturates.cache_clear()
        runner.self_test.cache_clear()


@pytest.mark.parametrize("march", [None, "bayes", "onnxruntime"])
def test_the_form_by_choice(march, settled, tmp_path):
    """The caller decides, whatever the march; the numbers are the same."""
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    prepared = settled(net, x, quantize_output=True, march=march)
    found = {}
    for form in ("int8", "uint8", None):
        path = tmp_path / f"{form}.onnx"
        export_qat_onnx(prepared, path, (x,), qdq=form)
        found[form] = pairs_of(path), run(path, x, optimized=False)[0]
    assert {dtype for _, dtype, _ in found["int8"][0]} == {"int8"}
    assert {dtype for _, dtype, _ in found["uint8"][0]} == {"uint8"}
    assert found[None][0] == found["uint8" if march == "onnxruntime" else "int8"][0]
    assert np.array_equal(found["int8"][1], found["uint8"][1])


def test_int8_cannot_hold_quint8(settled, tmp_path):
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 1))
    prepared = settled(net, x, qconfig="onnxruntime_qat", march="onnxruntime")
    with pytest.raises(DiagnosticError) as caught:
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,), qdq="int8")
    assert [d.code for d in caught.value.diagnostics] == ["QS808"]
    assert not (tmp_path / "a.onnx").exists()
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,), qdq="uint8")
    assert ("QuantizeLinear", "uint8", 0) in pairs_of(tmp_path / "a.onnx")


def test_a_last_linear_layer_is_an_integer_kernel(settled, tmp_path):
    """Its bias is rounded as the Program's is: onnxruntime's kernel takes no other."""
    onnxruntime = pytest.importorskip("onnxruntime")
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(288, 7))
    prepared = settled(net, x, march="onnxruntime", qconfig="onnxruntime_qat")
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(tmp_path / "a.onnx", options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert "QGemm" in kinds and not {"Gemm", "MatMul"} & set(kinds)
    program = lower(prepared, (x,))
    (real,) = program.dequantize(program.run(*program.quantize(x.numpy())))
    (found,) = run(tmp_path / "a.onnx", x, optimized=False)
    assert np.abs(found - real).max() <= 2e-6 * np.abs(real).max()


@pytest.mark.parametrize("channels", [3, 5, 8])
def test_channels_are_widened_for_the_kernel_that_reads_in_place(
    settled, tmp_path, monkeypatch, channels
):
    """Channels of 0 change no number; float32's file beside it does not have them."""
    x = torch.randn(2, channels, 9, 9)
    net = nn.Sequential(nn.Conv2d(channels, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 16, 1))
    prepared = settled(net, x, march="onnxruntime", qconfig="onnxruntime_qat", quantize_output=True)
    files = {}
    for name, least in (("wide", convolution.DIRECT), ("as it is", 10**9)):
        monkeypatch.setattr(convolution, "DIRECT", least)
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
        files[name] = onnx.load(tmp_path / "a.onnx")
    shapes = {
        name: [list(i.dims) for i in model.graph.initializer if len(i.dims) == 4]
        for name, model in files.items()
    }
    assert shapes["wide"] == [[16, -channels % 4 + channels, 3, 3], [16, 16, 1, 1]]
    assert shapes["as it is"] == [[16, channels, 3, 3], [16, 16, 1, 1]]
    bare = [without_quantization(model) for model in files.values()]
    assert [[list(i.dims) for i in m.graph.initializer if len(i.dims) == 4] for m in bare] == [
        shapes["as it is"]
    ] * 2
    ort = pytest.importorskip("onnxruntime")
    sessions = [ort.InferenceSession(m.SerializeToString()) for m in (*files.values(), *bare)]
    wide, narrow, *real = (s.run(None, {s.get_inputs()[0].name: x.numpy()})[0] for s in sessions)
    assert np.array_equal(wide, narrow) and np.unique(wide).size > 20
    assert np.array_equal(*real)
