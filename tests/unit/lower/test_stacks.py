"""Sums over what a stack puts side by side: nothing holds all of the parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.lower import lower
from qatspec.referee import interpret


class Net(nn.Module):
    """Three maps of one size, and what `body` makes of them."""

    def __init__(self, body):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(3, 8, 3, padding=1) for _ in range(3))
        self.last = nn.Conv2d(8, 4, 1)
        self.body = body

    def forward(self, x):
        return self.last(self.body([part(x).relu() for part in self.parts]))


ADDED = {
    "yolov9": lambda maps: torch.sum(torch.stack(maps), dim=0),
    "method": lambda maps: torch.stack(maps, 2).sum(-3),
    "list of one dim": lambda maps: torch.stack(maps, dim=1).sum([1]),
    "mean": lambda maps: torch.stack(maps).mean(0),
    "one map": lambda maps: torch.stack(maps[:1]).sum(0),
}
AS_WRITTEN = {
    "read twice": lambda maps: (lambda s: s.sum(1) + s[:, 0])(torch.stack(maps, 1)),
    "another dim": lambda maps: torch.stack([*maps, *maps, *maps[:2]], 1).sum(2),
}


@pytest.mark.parametrize("name", [*ADDED, *AS_WRITTEN])
def test_maps_of_a_stack_are_added(settled, name):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 16, 16)
    net = Net({**ADDED, **AS_WRITTEN}[name])
    float_result = net(x)
    prepared = settled(net, x, quantize_output=True)
    program = lower(prepared, (x,))
    kinds = {op.kind for op in program.ops}
    assert ("concat" in kinds, "reduce_sum" in kinds) == ((name in AS_WRITTEN,) * 2)
    ints = program.quantize(x.numpy())
    (result,) = program.run(*ints)
    assert np.array_equal(result, interpret(program, *ints)[0])
    with torch.no_grad():
        expected = prepared.model(x)
    steps = np.abs(program.dequantize([result])[0] - expected.numpy()) / program.outputs[0].scale
    assert steps.max() <= 2
    noise = (expected - float_result).detach().square().mean() / float_result.square().mean()
    assert noise < 0.01
