"""Weights that forward makes from the sizes of its tensors: quantized as stored ones are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from tests.unit.prepare.conftest import INT8, image

SOBEL = [[[[1.0, 0.0, -1.0], [2.0, 0.0, -2.0], [1.0, 0.0, -1.0]]]]


def by_channel(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    return F.conv2d(x, weight, bias, padding=1, groups=x.shape[1])


CASES = {
    "repeated buffer": lambda net, x: by_channel(x, net.kernel.repeat(x.size(1), 1, 1, 1)),
    "expanded buffer": lambda net, x: by_channel(x, net.kernel.expand(x.shape[1], -1, -1, -1)),
    "written numbers": lambda net, x: by_channel(
        x, torch.tensor(SOBEL, device=x.device).repeat(x.shape[1], 1, 1, 1)
    ),
    "numbers of the input's type": lambda net, x: by_channel(
        x, x.new_tensor(SOBEL).repeat(x.shape[1], 1, 1, 1)
    ),
    "ones": lambda net, x: by_channel(x, torch.ones(x.size(1), 1, 3, 3, device=x.device) / 9),
    "parameter": lambda net, x: by_channel(
        x, net.weight[: x.size(1)] * x.new_ones(x.size(1), 1, 1, 1)
    ),
    "bias": lambda net, x: by_channel(x, net.weight, x.new_full((x.size(1),), 0.5)),
    "transposed": lambda net, x: F.conv_transpose2d(
        x, net.kernel.repeat(x.size(1), 1, 1, 1), stride=2, groups=x.size(1)
    ),
    "linear": lambda net, x: F.linear(x.mean((2, 3)), torch.eye(x.size(1)) * 2),
}  # fmt: skip


class Net(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.call = call
        self.weight = nn.Parameter(torch.randn(3, 1, 3, 3))
        self.register_buffer("kernel", torch.rand(1, 1, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


@pytest.mark.parametrize("call", CASES.values(), ids=CASES)
def test_the_weight_is_quantized(call, tmp_path):
    net, x = Net(call).eval(), image()
    prepared = prepare(net, (x,), qconfig=INT8, march="bayes", quantize_output=True)
    net.load_state_dict({"weight": net.weight * 2, "kernel": net.kernel * 2}, strict=True)
    prepared.model.load_state_dict(net.state_dict(), strict=False)
    torch.testing.assert_close(prepared.model(x), net(x))
    set_stage(prepared, "qat")
    if net(x).requires_grad:  # else nothing is trained
        prepared.model(x).sum().backward()
        assert prepared.model.get_parameter("weight").grad is not None
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    (port,), ints = program.outputs, program.quantize(x.numpy())
    (real,) = program.dequantize(result := program.run(*ints))
    assert np.abs(real - prepared.model(x).detach().numpy()).max() <= 1.02 * port.scale.max()
    to_onnx(program, tmp_path / "c.onnx")
    assert np.array_equal(OnnxRunner.load(tmp_path / "c.onnx").run(*ints)[0], result[0])
    export_qat_onnx(prepared, tmp_path / "q.onnx", (x,))


def test_other_sizes():
    prepared = prepare(Net(CASES["repeated buffer"]).eval(), (image(),), qconfig=INT8)
    assert prepared.model(image(3, 3, 5, 6)).shape == (3, 3, 5, 6)
    with pytest.raises(DiagnosticError, match=r"QS513.* was 3 .* is 4"):
        prepared.model(image(2, 4, 8, 8))


def test_a_weight_of_the_batch_is_refused():
    """It has another shape for each number of images."""

    def call(net, x):
        rows = x.reshape(1, -1, *x.shape[2:])
        return by_channel(rows, torch.ones(3 * x.size(0), 1, 3, 3)).reshape(x.shape)

    prepared = prepare(Net(call).eval(), (image(),), qconfig=INT8, quantize_output=True)
    assert prepared.model(image(4, 3, 8, 8)).shape == (4, 3, 8, 8)
    with pytest.raises(DiagnosticError, match="its weight is computed from the input"):
        lower(prepared, (image(),))
