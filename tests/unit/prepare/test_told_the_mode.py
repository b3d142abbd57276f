"""Functions that are told the mode, F.dropout(x, p, self.training), know it afterwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from tests.unit.prepare.conftest import INT8, image

SDPA = F.scaled_dot_product_attention


def attention(x: Tensor, heads: int, rate: float) -> Tensor:
    """Attention between rows; the first `heads` channels are the keys."""
    keys = x[:, :heads]
    return SDPA(x, keys, keys, dropout_p=rate, enable_gqa=heads < x.shape[1], is_causal=True)


CALLS = {
    "dropout": lambda x, mode: F.dropout(x, 0.5, mode),
    "torch.dropout": lambda x, mode: torch.dropout(x, 0.5, mode),
    "alpha_dropout": lambda x, mode: F.alpha_dropout(x, training=mode),
    "feature_alpha_dropout": lambda x, mode: F.feature_alpha_dropout(x, p=0.5, training=mode),
    "rrelu": lambda x, mode: F.rrelu(x, 0.1, 0.9, training=mode),
    "attention": lambda x, mode: attention(x, 4, 0.5 if mode else 0.0),
    "attention with few keys": lambda x, mode: attention(x, 2, 0.5 if mode else 0.0),
    "attention by position": lambda x, mode: SDPA(x, x, x, None, 0.5 if mode else 0.0),
}


class Net(nn.Module):
    def __init__(self, call) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.call = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1), call

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.call(self.first(x), self.training))


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_it_is_random_in_training_alone(call):
    net, x = Net(call).eval(), image()
    prepared = prepare(net, (x,), qconfig=INT8, quantize_output=True)
    torch.testing.assert_close(prepared.model(x), net(x))
    set_stage(prepared, "qat")
    first, second = prepared.model(x), prepared.model(x)
    assert not torch.equal(first, second)
    torch.manual_seed(1)
    wanted = net.train()(x).std().item()
    assert 0.5 < first.std().item() / wanted < 2
    set_stage(prepared, "eval")
    assert torch.equal(prepared.model(x), prepared.model(x))
    assert lower(prepared, (x,)).outputs


def test_grouped_queries_are_the_same_numbers():
    net, x = Net(lambda x, mode: attention(x, 2, 0.0)).eval(), image()
    prepared = prepare(net, (x,), qconfig=INT8, quantize_output=True)
    assert all(node.target is not SDPA for node in prepared.model.graph.nodes)
    torch.testing.assert_close(prepared.model(x), net(x))
