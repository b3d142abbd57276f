"""Norms of few numbers, and layers whose input is nearly nothing."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.referee import interpret


def faked(net, x):
    prepared = prepare(net.eval(), (x,), qconfig="horizon_qat")
    with torch.no_grad():
        prepared.model(x)
        set_stage(prepared, "qat")
        set_stage(prepared, "eval")
        return prepared, prepared.model(x).numpy()


@pytest.mark.parametrize("count", [2, 3, 5, 8])
@pytest.mark.parametrize("reach", [0.1, 1.0, 5.0])
def test_eps_beside_a_variance_of_one_step(count, reach):
    x = torch.randn(4, 64, count) * 0.02 * reach  # most differ by a few steps of the scale
    x[0, 0, 0] = reach
    prepared, wanted = faked(nn.LayerNorm(count), x)
    program = lower(prepared, (x,))
    found = program.dequantize(interpret(program, *program.quantize(x.numpy())))[0]
    steps = np.abs(found - wanted).max() / float(np.max(program.outputs[0].scale))
    assert steps <= 1.01


def test_a_bias_that_no_int32_holds(tmp_path):
    """In steps of a scale that saw zeros alone, a bias of 1 is more than 2^31."""
    torch.manual_seed(0)
    x = torch.randn(2, 3, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 3, padding=1))
    nn.init.zeros_(net[0].weight)
    nn.init.zeros_(net[0].bias)
    nn.init.constant_(net[1].bias, 1.0)
    net[1].weight.data *= 1e-3
    prepared, wanted = faked(net, x)
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    session = onnxruntime.InferenceSession(tmp_path / "qat.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(found, wanted, atol=1e-2)
