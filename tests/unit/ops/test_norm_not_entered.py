"""Batch norms of a class of their own, in modules that tracing does not enter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.referee import interpret


class _WithRelu(nn.BatchNorm2d):
    """The base class's code counts batches in training: tracing cannot enter it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(super().forward(x))


class _SpelledOut(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        statistics = (self.running_mean, self.running_var)
        affine = (self.weight, self.bias)
        return F.batch_norm(x, *statistics, *affine, self.training, self.momentum, self.eps)


class _Fixed(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, eps=self.eps)


class _Torchs(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        affine, statistics = (self.weight, self.bias), (self.running_mean, self.running_var)
        return torch.batch_norm(
            x, *affine, *statistics, self.training, self.momentum, self.eps, False
        )


@pytest.mark.parametrize("norm", [_WithRelu, _SpelledOut, _Fixed, _Torchs])
@pytest.mark.parametrize("by", ["name", "class"])
def test_integers_and_onnx(norm: type[nn.BatchNorm2d], by: str, tmp_path: Path) -> None:
    """The integers and the Q/DQ file are one step from the fake-quant model."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), norm(4, eps=0.1), nn.Conv2d(4, 2, 1)).eval()
    net[1].running_mean.normal_()
    net[1].running_var.uniform_(0.5, 2)
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    names = {"name": "1", "class": norm}
    prepared = prepare(
        net, (x,), qconfig="horizon_qat", prepare={f"non_traceable_module_{by}": [names[by]]}
    )
    with torch.no_grad():
        prepared.model(x)
        set_stage(prepared, "qat")
        set_stage(prepared, "eval")
        wanted, real = prepared.model(x).numpy(), net(x).numpy()
    assert np.abs(wanted - real).max() < 0.05 * np.abs(real).max()
    program = lower(prepared, (x,))
    (found,) = program.dequantize(interpret(program, *program.quantize(x.numpy())))
    step = float(np.max(program.outputs[0].scale)) * 1.01
    assert np.abs(found - wanted).max() <= step
    export_qat_onnx(prepared, tmp_path / "qat.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "qat.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    assert np.abs(found - wanted).max() <= step
