"""One canonical name whatever the spelling."""

from __future__ import annotations

import operator

import pytest
import torch
import torch.nn.functional as F
from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.ops import rule_names, spellings
from qatspec.graph.trace import trace
from qatspec.registry import registry


def _op(forward) -> str | None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu = nn.ReLU()
            self.own = OwnForward()
            self.sub = SubConv(3, 3, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return forward(self, x)

    net = Net()
    graph = trace(net, (torch.randn(2, 3, 4, 4),), leaf=(OwnForward,))
    context = GraphContext(net, graph)
    node = next(n for n in graph.nodes if n.op.startswith("call_"))
    return context.op(node)


class OwnForward(nn.ReLU):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 1


class SubConv(nn.Conv2d):
    """A conv by another name."""


@pytest.mark.parametrize(
    ("op", "forward"),
    [
        ("add", lambda m, x: x + x),
        ("add", lambda m, x: torch.add(x, x)),
        ("add", lambda m, x: x.add(x)),
        ("add", lambda m, x: operator.iadd(x, x)),
        ("add", lambda m, x: 1.0 + x),
        ("mul", lambda m, x: x * 2),
        ("relu", lambda m, x: m.relu(x)),
        ("relu", lambda m, x: F.relu(x)),
        ("relu", lambda m, x: torch.relu(x)),
        ("relu", lambda m, x: x.relu_()),
        ("max_pool2d", lambda m, x: F.max_pool2d(x, 2)),
        ("avg_pool2d", lambda m, x: F.avg_pool2d(x, 2)),
        ("adaptive_avg_pool2d", lambda m, x: F.adaptive_avg_pool2d(x, 1)),
        ("interpolate", lambda m, x: F.interpolate(x, scale_factor=2)),
        ("flatten", lambda m, x: x.flatten(1)),
        ("getitem", lambda m, x: x[:, 0]),
        ("chunk", lambda m, x: x.chunk(3, 1)[0]),
        ("cat", lambda m, x: torch.cat([x, x])),
        ("mean", lambda m, x: x.mean((2, 3))),
        ("clamp", lambda m, x: x.clamp(0, 6)),
        ("hardtanh", lambda m, x: F.hardtanh(x, 0.0, 6.0)),
        ("pad", lambda m, x: F.pad(x, (1, 1))),
        ("softmax", lambda m, x: F.softmax(x, 1)),
        ("conv2d", lambda m, x: m.sub(x)),
        (None, lambda m, x: m.own(x)),
    ],
)
def test_spellings_of_one_op(op: str | None, forward) -> None:
    assert _op(forward) == op


def test_every_spelling_exists_in_torch_and_belongs_to_one_op() -> None:
    seen: dict[str, str] = {}
    for op, names in registry().spellings().items():
        for name in names:
            assert seen.setdefault(name, op) == op
    assert spellings("relu")[0] == "relu"
    assert "torch.nn.ReLU" in spellings("relu")


def test_rules_can_name_a_class_of_the_models_own() -> None:
    net = nn.Sequential(SubConv(3, 3, 1))
    graph = trace(net, (torch.randn(1, 3, 4, 4),), leaf=(SubConv,))
    node = next(n for n in graph.nodes if n.op == "call_module")
    names = rule_names(node, dict(net.named_modules()))
    assert names[0] == "conv2d"
    assert f"{SubConv.__module__}.SubConv" in names
    assert "torch.nn.Conv2d" in names
    assert isinstance(node, fx.Node)
