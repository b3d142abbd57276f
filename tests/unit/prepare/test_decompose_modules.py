"""Composite modules and attention become what they consist of: all forms agree."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from qatspec.api import export_qat_onnx, lower, prepare, set_stage
from qatspec.ir import outputs_of
from tests.layers import Op
from tests.unit.export.test_qdq import run

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))
FUTURE = torch.triu(torch.ones(24, 24, dtype=torch.bool), 1)


class Attention(nn.Module):
    """Attention over the rows of all channels."""

    def __init__(self, mask=None, call=None, **settings) -> None:
        super().__init__()
        self.call = call or {}
        self.attention = nn.MultiheadAttention(6, 2, **settings)
        with torch.no_grad():
            self.attention.in_proj_weight.mul_(2)
        self.register_buffer("mask", mask)

    def forward(self, x):
        x = x.flatten(1, 2)
        if not self.attention.batch_first:
            x = x.transpose(0, 1)
        kv = x * 0.5 if self.call.get("cross") else x
        call = {k: v for k, v in self.call.items() if k != "cross"}
        y, weights = self.attention(x, kv, kv, attn_mask=self.mask, **call)
        if not self.attention.batch_first:
            y = y.transpose(0, 1)
        return y if weights is None else (y, weights)


def attention(**settings):
    return lambda: Attention(**{"batch_first": True, **settings})


def rows(x, **settings):
    return F.scaled_dot_product_attention(x, x * 0.5, x, **settings)


CASES = {
    "attention": attention(call={"need_weights": False}),
    "with weights": attention(),
    "with the weights of each head": attention(call={"average_attn_weights": False}),
    "batch in the second dim": attention(batch_first=False, call={"need_weights": False}),
    "without bias": attention(bias=False, call={"need_weights": False}),
    "of another tensor": attention(call={"need_weights": False, "cross": True}),
    "with dropout": attention(dropout=0.5, call={"need_weights": False}),
    "with a mask of booleans": attention(mask=FUTURE, call={"need_weights": False}),
    "with a mask of numbers": attention(mask=FUTURE * -4.0, call={"need_weights": False}),
    "causal": attention(mask=FUTURE, call={"need_weights": False, "is_causal": True}),
    "a layer of a transformer": lambda: nn.Sequential(
        nn.Flatten(1, 2), nn.TransformerEncoderLayer(6, 2, 16, batch_first=True)
    ),
    "a layer with norms in front": lambda: nn.Sequential(
        nn.Flatten(1, 2),
        nn.TransformerEncoderLayer(6, 2, 16, batch_first=True, norm_first=True, activation="gelu"),
    ),
    "an encoder": lambda: nn.Sequential(
        nn.Flatten(1, 2),
        nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 16, batch_first=True), 2),
    ),
    "a decoder": lambda: Op(
        lambda x, decoder: decoder(x.flatten(1, 2), x.flatten(1, 2) * 0.5),
        nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 16, batch_first=True), 2),
    ),
    "functional, causal": lambda: Op(lambda x: rows(x, is_causal=True)),
    "functional, a mask": lambda: Op(lambda x, m: rows(x, attn_mask=m > 0), torch.eye(6) + 1),
    "nn.Unfold": lambda: nn.Unfold(3, padding=1, stride=2),
    "nn.Fold of nn.Unfold": lambda: nn.Sequential(
        nn.Unfold(3, padding=1, stride=2), nn.Fold((6, 6), 3, padding=1, stride=2)
    ),
    "nn.Unfold dilated": lambda: nn.Unfold((2, 3), dilation=(2, 1)),
    "nn.GLU": lambda: nn.GLU(1),
    "F.glu": lambda: Op(lambda x: F.glu(x)),
    "index_select": lambda: Op(lambda x: x.index_select(1, torch.tensor([3, 0, 0]))),
}


@pytest.mark.parametrize("name", CASES)
def test_all_forms_agree(name, tmp_path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), CASES[name]()).eval()
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    assert list(prepared.model.state_dict())[:2] == list(net.state_dict())[:2]
    assert set(net.state_dict()) <= set(prepared.model.state_dict())
    with torch.no_grad():  # fake-quants are off
        expected = pytree.tree_leaves(net(X))
        for y, z in zip(pytree.tree_leaves(prepared.model.eval()(X)), expected, strict=True):
            torch.testing.assert_close(y, z, rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    fake = pytree.tree_leaves(prepared.model(X))
    program = lower(prepared, (X,))
    real = program.dequantize(program.run(*program.quantize(X.numpy())))
    export_qat_onnx(prepared, tmp_path / "q.onnx", (X,))
    written = run(tmp_path / "q.onnx", more := torch.cat([X, X[:1]]))
    again = pytree.tree_leaves(prepared.model(more))
    for i, y, z, other in zip(outputs_of(program.tree), fake, expected, again, strict=True):
        assert (y - z).norm() < 0.1 * z.norm()
        step = program.outputs[i].scale.max()
        assert abs(real[i] - y.detach().numpy()).max() <= 3.01 * step
        assert abs(written[i] - other.detach().numpy()).max() <= 3.01 * step


def test_dropout_of_attention_drops_while_training() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), CASES["with dropout"]())
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    set_stage(prepared, "qat")
    assert not torch.equal(prepared.model(X), prepared.model(X))
    set_stage(prepared, "eval")
    assert torch.equal(prepared.model(X), prepared.model(X))
