"""A Program in onnxruntime's fast kernels: one integer away in a layer at most, equal sums."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.export.exactness import layer_exactness
from qatspec.export.fast import emitter
from qatspec.kinds import KINDS, Trait
from qatspec.lower import lower
from qatspec.program import ProgramBuilder
from tests.nets import check_onnx
from tests.unit.export.test_float_ops import CASES, Op
from tests.unit.export.test_uint8 import CLAMPS, PADS

onnxruntime = pytest.importorskip("onnxruntime")


def distances(program, folder, images):
    """Largest distance of every output to the Program's, of its dtype and shape."""
    to_onnx(program, folder / "fast.onnx", exact=False)
    check_onnx(folder / "fast.onnx")
    runner = OnnxRunner.load(folder / "fast.onnx", threads=1)
    ints = program.quantize(images.numpy())
    found = []
    for got, wanted in zip(runner.run(*ints), program.run(*ints), strict=True):
        assert (got.dtype, got.shape) == (wanted.dtype, wanted.shape)
        found.append(int(np.abs(got.astype(np.int64) - wanted).max(initial=0)))
    return found


#: one layer each, and two where a table or product follows another
@pytest.mark.parametrize(
    "name", [*CASES, *(f"clamp {n}" for n in CLAMPS), *map("pad {}".format, PADS)]
)
def test_one_op(name, settled, tmp_path):
    kind, _, rest = name.partition(" ")
    if kind in ("clamp", "pad") and name not in CASES:
        shape = (6, 8, 8)
        layer = nn.Sequential(nn.Conv2d(6, 6, 3), Op({**CLAMPS, **PADS}[rest]))
    else:
        shape, make = CASES[name]
        layer = make()
    x = torch.randn(2, *shape)
    try:
        program = lower(settled(nn.Sequential(layer), x, quantize_output=True), (x,))
    except DiagnosticError:
        pytest.skip("no integer form")
    for images in (x, 3 * torch.randn(3, *shape)):
        assert max(distances(program, tmp_path, images)) <= 2


def test_every_op_at_once(everything, tmp_path):
    prepared, x = everything
    program = lower(prepared, (x,))
    found = distances(program, tmp_path, x)
    for port, distance in zip(program.outputs, found, strict=True):
        step = 1 if port.dtype == "int8" else 127 * 8 * 9  # what one integer before it can add
        assert distance <= 3 * step


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 2), (7, 1)])
@pytest.mark.parametrize("read_twice", [False, True], ids=["alone", "read twice"])
def test_depthwise_channels_become_a_multiple_of_16(read_twice, stride, kernel, settled, tmp_path):
    """Of an inverted residual; results that others read as well keep their channels."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.expand = nn.Conv2d(8, 24, 1)
            self.depthwise = nn.Conv2d(24, 24, kernel, stride, kernel // 2, groups=24)
            self.project = nn.Conv2d(24, 8, 1)
            self.other = nn.Conv2d(24, 8, 1)

        def forward(self, x):
            wide = F.relu(self.depthwise(F.relu6(self.expand(x))))
            return self.project(wide) + (self.other(wide) if read_twice else 0)

    x = torch.randn(2, 8, 12, 12)
    program = lower(settled(Net(), x, quantize_output=True), (x,))
    assert max(distances(program, tmp_path, 3 * x)) <= 2
    groups = [
        next(a.i for a in node.attribute if a.name == "group")
        for node in onnx.load(tmp_path / "fast.onnx").graph.node
        if node.op_type == "QLinearConv"
    ]
    assert max(groups) == (24 if read_twice else 32)
    layers = layer_exactness(program, [program.quantize(x.numpy())])
    assert all(layer.max_lsb <= 1 and layer.share > 0.9 for layer in layers.values())


def kernels(folder):
    """Node types of onnxruntime's optimized graph of the file that `distances` wrote."""
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(folder / "fast.onnx", options, providers=["CPUExecutionProvider"])
    return Counter(n.op_type for n in onnx.load(folder / "optimized.onnx").graph.node)


TAILS = {
    "1 x 1": (nn.Conv2d(8, 4, 1), "MatMulInteger"),
    "strided 1 x 1": (nn.Conv2d(8, 4, 1, stride=2), "MatMulInteger"),
    "3 x 3": (nn.Conv2d(8, 4, 3, padding=1), "MatMulInteger"),
    "of any window": (
        nn.Conv2d(8, 5, (2, 4), stride=(2, 1), padding=(1, 3), dilation=(3, 2)),
        "MatMulInteger",
    ),
    "large sums": (nn.Conv2d(600, 4, 5, padding=1), "MatMulInteger"),
    "depthwise": (nn.Conv2d(8, 8, 3, groups=8), "Conv"),
    "grouped, large sums": (nn.Conv2d(1200, 4, 5, groups=2), "ConvInteger"),
    "linear": (nn.Linear(8, 3), "MatMulInteger"),
}


@pytest.mark.parametrize("name", TAILS)
def test_int32_outputs_of_equal_inputs_are_equal(name, settled, tmp_path):
    layer, kind = TAILS[name]
    nn.init.ones_(layer.weight)
    x = torch.randn(1, *((layer.in_channels, 8, 8) if "linear" not in name else (8, 8)))
    program = lower(settled(nn.Sequential(layer), x), (x,))
    assert distances(program, tmp_path, 100 * torch.randn(3, *x.shape[1:])) == [0]
    found = kernels(tmp_path)
    assert set(found) & {"Conv", "ConvInteger", "MatMulInteger"} == {kind}


def test_tails_of_one_tower_are_one_product(settled, tmp_path):
    class Heads(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(8, 4, 3, padding=1), nn.Conv2d(8, 1, 3, padding=1)
            self.c = nn.Conv2d(8, 4, 3)

        def forward(self, x):
            return self.a(x), self.b(x), self.c(x)

    x = torch.randn(1, 8, 8, 8)
    program = lower(settled(Heads(), x), (x,))
    assert distances(program, tmp_path, 3 * torch.randn(2, 8, 8, 8)) == [0, 0, 0]
    written = Counter(n.op_type for n in onnx.load(tmp_path / "fast.onnx").graph.node)
    assert (written["Concat"], written["MatMulInteger"]) == (2, 6)


#: layer, shape of its input, kernels that it must have become
KERNELS = {
    "stem 3 x 3": (nn.Conv2d(3, 16, 3, 2, 1), (3, 12, 10), {"QLinearConv": 1, "Pad": 1}),
    "stem 7 x 7": (nn.Conv2d(3, 16, 7, 2, 3), (3, 12, 10), {"QLinearConv": 1, "SpaceToDepth": 1}),
    "stem 6 x 6": (nn.Conv2d(3, 16, 6, 2, 2), (3, 12, 10), {"QLinearConv": 1, "SpaceToDepth": 1}),
    "stem 5 x 8": (nn.Conv2d(1, 16, (5, 8), 2, (0, 1)), (1, 12, 10), {"SpaceToDepth": 1}),
    "stem, odd image": (nn.Conv2d(3, 16, 7, 2, 3), (3, 11, 10), {"QLinearConv": 1, "Pad": 1}),
    "stem, stride 1": (nn.Conv2d(3, 16, 5, 1, 2), (3, 12, 10), {"QLinearConv": 1, "Pad": 1}),
    "mean": (nn.AdaptiveAvgPool2d(1), (8, 6, 5), {"QLinearGlobalAveragePool": 1}),
    "mean, without the dims": (
        Op(lambda x: x.mean((2, 3))), (8, 6, 5), {"QLinearGlobalAveragePool": 1},
    ),
    "mean of rows": (Op(lambda x: x.mean(3)), (8, 6, 5), {"ReduceSum": 1}),
    "mean of pools": (nn.AvgPool2d(2), (16, 8, 8), {"QLinearConv": 1}),
    "matrix": (nn.Linear(8, 5), (7, 8), {"MatMulIntegerToFloat": 1}),
    "vector": (nn.Linear(8, 5), (8,), {"QGemm": 1}),
    "product": (Op(lambda x: x @ x.transpose(1, 2)), (7, 8), {"QLinearMatMul": 1}),
    "by 2": (nn.Upsample(scale_factor=2), (4, 5, 6), {"Concat": 2}),
    "by 3 across": (nn.Upsample(scale_factor=(1, 3)), (4, 5, 6), {"Concat": 1}),
    "bilinear": (nn.Upsample(scale_factor=2, mode="bilinear"), (4, 5, 6), {"Resize": 1}),
    "bilinear, corners": (
        nn.Upsample(size=(11, 9), mode="bilinear", align_corners=True), (4, 5, 6), {"Resize": 1},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", KERNELS)
def test_kernels(name, settled, tmp_path):
    """Nothing is left to the exact form, and every integer is the Program's or its neighbour."""
    layer, shape, wanted = KERNELS[name]
    x = torch.randn(2, *shape)
    program = lower(settled(nn.Sequential(layer), x, quantize_output=True), (x,))
    assert max(distances(program, tmp_path, 2 * torch.randn(3, *shape))) <= 1
    found = kernels(tmp_path)
    assert {kind: found[kind] for kind in wanted} == wanted
    assert not {"Conv", "ConvInteger", "Floor", "Gather", "Gemm", "MatMul"} & set(found)


def test_convolutions_and_sums_are_integer_kernels(settled, tmp_path):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            x = F.relu6(self.a(x))
            return F.relu(F.interpolate(F.max_pool2d(self.b(x) + x, 3, 2, 1), scale_factor=2))

    x = torch.randn(2, 3, 16, 16)
    prepared = settled(Net(), x, quantize_output=True, march="onnxruntime")
    assert max(distances(lower(prepared, (x,)), tmp_path, x)) <= 2
    kinds = kernels(tmp_path)
    assert kinds["QLinearConv"] == 2 and kinds["QLinearAdd"] == 1
    assert not {"Conv", "ConvInteger", "Floor", "Relu"} & set(kinds)
    metadata = {p.key: p.value for p in onnx.load(tmp_path / "fast.onnx").metadata_props}
    assert json.loads(metadata["qatspec"])["saturating"] == ["a", "b"]


def test_numbers_past_int32_are_left_to_the_exact_form(tmp_path):
    """A multiplier so large that kernels which convert before they clip would wrap."""
    builder = ProgramBuilder("large", None)
    x = builder.input("x", "int8", (3, 4, 4), 0.1)
    product = builder.emit("mul", [x, x], name="square", scale=0.01)
    constants = [builder.const(n, "int64", np.array([v])) for n, v in (("m", 1 << 37), ("s", 0))]
    bounds = {"low": -128, "high": 127, "axis": 1, "rounding": "half_up", "dtype": "int8"}
    y = builder.emit("requant", [product, *constants], name="y", scale=1.0, **bounds)
    assert distances(builder.finish([y]), tmp_path, torch.randn(2, 3, 4, 4)) == [0]


def test_an_output_that_is_read_as_well(settled, tmp_path):
    """onnxruntime's fusion of Pad and MaxPool fails on an Identity of what they read."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = nn.Conv2d(3, 16, 3), nn.Conv2d(16, 8, 3), nn.Conv2d(16, 8, 1)

        def forward(self, x):
            y = F.relu(self.a(x))
            pooled = F.max_pool2d(y, 3, 2, 1)
            return y, self.b(pooled), self.c(pooled), y

    x = torch.randn(1, 3, 16, 16)
    prepared = settled(Net(), x, qconfig="onnxruntime_qat", quantize_output=True)
    assert max(distances(lower(prepared, (x,)), tmp_path, 2 * x)) <= 1


def test_fast_forms_are_forms_of_kinds_and_byte_kernels_have_one():
    tables = (emitter._SHIFTED, emitter._SUMS, emitter._JOINED, emitter._REAL)
    assert set().union(*tables) <= KINDS.keys()
    in_bytes = {name for name, kind in KINDS.items() if Trait.BYTE_KERNEL in kind.traits}
    assert in_bytes <= emitter._JOINED.keys() | emitter._REAL.keys()
