"""The work of prepare and of deploy grows with the model, not with its square."""

from __future__ import annotations

import cProfile
import pstats
from collections.abc import Callable

import torch
from torch import Tensor, nn

from qatspec.graph.deploy import deploy
from qatspec.prepare import prepare
from tests.unit.prepare.conftest import INT8


class Block(nn.Module):
    """Seven nodes: two convs with batch norms, one of them fused with an addition."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, 2, 1, bias=False) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(2) for _ in range(2))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norms[0](self.convs[0](x)))
        return self.relu(x + self.norms[1](self.convs[1](y)))


def calls(run: Callable[[], object]) -> int:
    """Number of Python calls that `run` makes: the same on every machine."""
    with cProfile.Profile() as profile:
        run()
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


def test_ten_times_the_nodes_take_ten_times_the_calls() -> None:
    x = torch.zeros(1, 2, 2, 2)
    found: dict[str, list[int]] = {"prepare": [], "deploy": []}
    for blocks in (2, 12, 120):  # the first fills caches
        model = nn.Sequential(*(Block() for _ in range(blocks)))
        made = []
        found["prepare"].append(calls(lambda: made.append(prepare(model, (x,), qconfig=INT8))))  # noqa: B023
        found["deploy"].append(calls(lambda: deploy(made[0], (x,))))  # noqa: B023
    for name, (_, small, large) in found.items():
        assert large < 11 * small, f"{name}: {small} calls for 84 nodes, {large} for 840"


def test_a_graph_may_be_deeper_than_pythons_stack() -> None:
    class Deep(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            for _ in range(1100):
                y = y.flip(2)
            return torch.where(y > 0, y, x)

    prepare(Deep().eval(), (torch.zeros(1, 3, 2, 2),), qconfig=INT8)
