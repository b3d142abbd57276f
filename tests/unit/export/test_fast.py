"""A Program in onnxruntime's fast kernels: one integer away in a layer at most, equal sums."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
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


def test_int32_outputs_of_equal_inputs_are_equal(settled, tmp_path):
    """Sums below 2^24 in float32, larger ones in ConvInteger."""
    x = torch.randn(1, 600, 6, 6)
    for width, op in ((8, "Conv"), (600, "ConvInteger")):
        images = x[:, :width]
        net = nn.Conv2d(width, 4, 5, padding=1)
        nn.init.ones_(net.weight)
        program = lower(settled(net, images), (images,))
        assert distances(program, tmp_path, 100 * images) == [0]
        kinds = {n.op_type for n in onnx.load(tmp_path / "fast.onnx").graph.node}
        assert kinds & {"Conv", "ConvInteger"} == {op}


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
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(
        tmp_path / "fast.onnx", options, providers=["CPUExecutionProvider"]
    )
    kinds = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert kinds.count("QLinearConv") == 2 and kinds.count("QLinearAdd") == 1
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
