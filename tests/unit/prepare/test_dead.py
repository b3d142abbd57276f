"""What reaches no output is named and dropped."""

from __future__ import annotations

import torch
from torch import nn

from qatspec.prepare import prepare


class Slip(nn.Module):
    """A branch that is overwritten, a head that is forgotten, and a shape that is only asserted."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.branch = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)
        self.forgotten = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x):
        assert x.flatten(1).shape[1] > 1
        y = torch.relu(self.branch(x))
        y = self.conv(x) * self.scale
        return y  # noqa: RET504


def _dead(model: nn.Module) -> list[str]:
    prepared = prepare(model, (torch.zeros(1, 3, 4, 4),), qconfig="horizon_qat")
    nodes = {str(n) for n in prepared.model.graph.nodes}
    assert not any("branch" in n for n in nodes)
    return [w.message for w in prepared.warnings if w.code == "QS506"]


def test_dead_branches_are_named() -> None:
    messages = _dead(Slip())
    assert messages == [
        "`:relu` is computed, but reaches no output",
        "module `branch` has parameters, but is never called",
        "module `forgotten` has parameters, but is never called",
    ]


def test_a_model_without_them_is_quiet() -> None:
    assert _dead(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())) == []
