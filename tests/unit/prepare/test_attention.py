"""Attention in one call is prepared as the ops it is made of, or stays whole and is told."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from tests.layers import Op
from tests.nets import settle

SDPA = F.scaled_dot_product_attention


def images() -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "call",
    [
        lambda q, k, v, bias: SDPA(q, k, v),
        lambda q, k, v, bias: SDPA(query=q, key=k, value=v, scale=0.3),
        lambda q, k, v, bias: SDPA(q, k, v, bias, 0.0, False),
    ],
)
def test_written_out_it_is_the_same(call):
    x = images()
    net = Op(lambda x, bias: call(x, x.flip(2), x.abs(), bias), torch.randn(5, 5))
    prepared = settle(net, x, qconfig={"": None}, quantize_output=True)
    assert all(node.target is not SDPA for node in prepared.model.graph.nodes)
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(x), net(x))


def test_scores_and_probabilities_have_grids():
    prepared = settle(Op(lambda x: SDPA(x, x, x)), images(), quantize_output=True)
    names = [n for n, _ in prepared.model.named_children() if "post_process" in n]
    assert [n.removesuffix("_activation_post_process_0") for n in names] == [
        "x", "matmul", "mul", "softmax", "scaled_dot_product_attention",
    ]  # fmt: skip


def test_a_computed_mask_of_booleans_is_refused():
    x = images()
    net = Op(lambda x: SDPA(x, x, x, x @ x.transpose(2, 3) > 0))
    prepared = settle(net, x, quantize_output=True)
    with pytest.raises(DiagnosticError, match="scaled_dot_product_attention"):
        lower(prepared, (x,))
