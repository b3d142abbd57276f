"""TensorRT's written rules: our files keep them, broken ones are named."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from tensorrt_rules import tensorrt_findings
from torch import nn

from qatspec.export import export_qat_onnx


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8)
        self.a, self.b = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 1)
        self.up, self.fc = nn.ConvTranspose2d(8, 4, 2, 2), nn.Linear(4, 5)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        x = F.relu(self.b(F.relu6(self.a(x))) + x)
        return self.fc(self.up(x).mean((2, 3)))


@pytest.fixture
def model(settled, tmp_path):
    x = torch.randn(2, 3, 16, 16)
    export_qat_onnx(settled(Net(), x, quantize_output=True), tmp_path / "a.onnx", (x,))
    return onnx.load(tmp_path / "a.onnx")


def constant(model, name):
    return next(i for i in model.graph.initializer if i.name == name)


def replace(model, name, array):
    constant(model, name).CopyFrom(numpy_helper.from_array(array, name))


def first(model, op):
    return next(n for n in model.graph.node if n.op_type == op)


def test_our_files_keep_the_rules(model):
    assert tensorrt_findings(model) == []


def zero_point(model):
    replace(model, first(model, "QuantizeLinear").input[2], np.int8(3))
    return "symmetric"


def unsigned(model):
    replace(model, first(model, "QuantizeLinear").input[2], np.uint8(0))
    return "int8 or int4"


def activation_per_channel(model):
    replace(model, first(model, "QuantizeLinear").input[1], np.full(3, 0.1, np.float32))
    return "one scale"


def negative_scale(model):
    replace(model, first(model, "QuantizeLinear").input[1], np.float32(-1))
    return "not positive"


def quantized_alone(model):
    conv = first(model, "Conv")
    pair = next(n for n in model.graph.node if n.output[0] == conv.input[0])
    conv.input[0] = model.graph.input[0].name
    assert pair.op_type == "DequantizeLinear"
    return "its input is not"


def weight_axis(model):
    conv = first(model, "Conv")
    weight = next(n for n in model.graph.node if n.output[0] == conv.input[1])
    weight.attribute[0].i = 1
    return "output channels"


def residual(model):
    add = next(n for n in model.graph.node if n.op_type == "Add")
    skipped = [i for i, name in enumerate(add.input) if "activation_post_process" in name]
    add.input[skipped[0]] = model.graph.input[0].name
    return "is not quantized itself"


def quantized_bias(model):
    pair = first(model, "DequantizeLinear")
    node = onnx.helper.make_node(
        "DequantizeLinear", list(pair.input), ["dequantized"], name="dequantized"
    )
    model.graph.node.insert(0, node)
    first(model, "Conv").input[2] = "dequantized"
    return "its bias is quantized"


@pytest.mark.parametrize(
    "damage",
    [
        zero_point, unsigned, activation_per_channel, negative_scale, quantized_alone, weight_axis,
        residual, quantized_bias,
    ],
)  # fmt: skip
def test_broken_files_are_named(damage, model):
    expected = damage(model)
    found = tensorrt_findings(model)
    assert any(expected in finding for finding in found), found
