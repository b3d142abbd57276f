"""Functions that jump: the table is on the side of the jump on which the fake-quant model is."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.api import lower, prepare, set_stage
from tests.layers import Op

FUNCTIONS = {
    "floor": torch.floor,
    "round": torch.round,
    "sign": torch.sign,
    "hardshrink": lambda x: F.hardshrink(x, 0.5),
    "threshold": lambda x: F.threshold(x, 0.3, -1.0),
}


@pytest.mark.parametrize("largest", [12.75, 12.75 * 0.9, 25.5, 4.25, 6.63])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_integers_are_within_a_step_at_every_input(name, largest):
    """Every integer of the input occurs, so that some stand right at a jump."""
    scale = torch.tensor(largest / 127.5)
    x = (torch.arange(-127, 128) * scale).reshape(1, 1, 5, 51)
    x[0, 0, 0, 0] = -largest
    x = torch.cat([x, x])
    net = nn.Sequential(Op(FUNCTIONS[name]))
    prepared = prepare(net, (x,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(x)
    set_stage(prepared, "qat")
    prepared.model(x)
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    (real,) = program.dequantize(program.run(*program.quantize(x.numpy())))
    step = program.outputs[0].scale.max()
    assert abs(real - prepared.model(x).detach().numpy()).max() <= 1.01 * step
