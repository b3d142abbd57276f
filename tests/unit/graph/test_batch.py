"""Which sizes follow the batch, and what is constant whatever it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from qatspec.graph.batch import Batch
from qatspec.graph.trace import trace


class Net(nn.Module):
    def __init__(self, body) -> None:
        super().__init__()
        self.body, self.weight = body, nn.Parameter(torch.ones(6))

    def forward(self, x):
        return self.body(x, self.weight)


def _batch(body, batch=2):
    net = Net(body).eval()
    graph = trace(net, (torch.randn(batch, 4, 6),))
    return Batch(net, graph), {node.name: node for node in graph.nodes}


@pytest.mark.parametrize(
    ("body", "sizes"),
    [
        (lambda x, w: x.flatten(1), ("batch", 24)),
        (lambda x, w: x.flatten(0, 1), ("4*batch", 6)),
        (lambda x, w: x.permute(2, 0, 1), (6, "batch", 4)),
        (lambda x, w: x.view(-1), ("24*batch",)),
        (lambda x, w: torch.cat((x, w.expand(3, 4, 6))), ("batch+3", 4, 6)),
        (lambda x, w: x[1:], ("batch-1", 4, 6)),
        (lambda x, w: x.view(x.shape[0] // 2, 2, 24), ("1/2*batch", 2, 24)),
        (lambda x, w: x.mean(0), (4, 6)),
        (lambda x, w: w + w, (6,)),
    ],
)
def test_sizes(body, sizes) -> None:
    batch, nodes = _batch(body)
    last = nodes["output"].args[0]
    assert batch.is_open
    assert tuple(s if isinstance(s, int) else str(s) for s in batch.sizes(last)) == sizes


def test_sizes_of_one_of_several() -> None:
    batch, nodes = _batch(lambda x, w: x.unbind(1)[0])
    assert [str(s) for s in batch.sizes(nodes["unbind"], 3)] == ["batch", "6"]


@pytest.mark.parametrize("size", [1, 2])
def test_code_that_holds_for_one_batch(size) -> None:
    batch, nodes = _batch(lambda x, w: x.view(size, 24) + 1, size)
    assert not batch.is_open
    assert batch.sizes(nodes["add"]) == (size, 24)


def test_constants() -> None:
    def body(x, w):
        places = torch.arange(x.shape[1] * 2) // 2
        return x + w * places[0] + torch.arange(x.shape[0])[0]

    batch, nodes = _batch(body)
    assert batch.is_constant(nodes["floordiv"])
    assert batch.value(nodes["floordiv"]).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert batch.is_constant(nodes["mul_1"])
    assert torch.equal(batch.value(nodes["mul_1"]), torch.zeros(6))
    assert not batch.is_constant(nodes["arange_1"])
    assert not batch.is_constant(nodes["x"])
    assert not batch.is_constant(3)
