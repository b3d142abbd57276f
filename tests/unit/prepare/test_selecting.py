"""Choices by booleans of several tensors: float, fake-quant, integers and ONNX agree."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare
from tests.forms import all_forms_agree

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(4))


class Net(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 1)
        mask = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) > 0.5
        self.register_buffer("mask", mask)
        self.function = function

    def forward(self, x):
        return self.function(self.a(x), self.b(x), self.mask)


def attention(fill):
    return lambda x, y, m: torch.softmax(fill(x @ y.transpose(-1, -2), m), -1) @ y


CASES = {
    "where": lambda x, y, m: torch.where(x > 0, x, y),
    "where of two and a number": lambda x, y, m: torch.where(y > 0.1, x, 0.5),
    "where one is larger": lambda x, y, m: torch.where(x > y, x, y),
    "where one is no larger": lambda x, y, m: torch.where(torch.le(x, y), x * 0.5, y),
    "a method": lambda x, y, m: x.where(y.lt(0), y),
    "masked by another": lambda x, y, m: x.masked_fill(y > 0, 0.0),
    "a factor": lambda x, y, m: x * (y > 0),
    "a factor in front": lambda x, y, m: (y >= x) * x,
    "a constant mask": lambda x, y, m: torch.where(m, x, y),
    "a constant mask and a number": lambda x, y, m: torch.where(m, 0.5, x),
    "a constant mask to 0": lambda x, y, m: x.masked_fill(m, 0),
    "a constant mask turned round": lambda x, y, m: torch.masked_fill(x, ~m, -0.25),
    "a constant factor": lambda x, y, m: x * m,
    "attention": attention(lambda s, m: s.masked_fill(m, -1e9)),
    "attention, infinity": attention(lambda s, m: s.masked_fill(m, float("-inf"))),
    "attention, where": attention(lambda s, m: torch.where(m, s, torch.finfo(s.dtype).min)),
    "attention, where of a tensor": attention(
        lambda s, m: torch.where(m, s, torch.tensor(float("-inf")))
    ),
    "attention, a sum": attention(lambda s, m: s + torch.zeros(6, 6).masked_fill(m, -math.inf)),
    "attention, a sum seen in another shape": attention(
        lambda s, m: (
            (torch.full(s.shape[-2:], -1e9, device=s.device).triu(1) + s).flatten(0, 1).view_as(s)
        )
    ),
    "attention, a mask with a bias": attention(
        lambda s, m: torch.add(s, torch.linspace(-1, 1, 6).masked_fill(m, -1e4))
    ),
    "power": lambda x, y, m: 2**x + y,
}


@pytest.mark.parametrize("name", CASES)
def test_all_forms_agree(name, tmp_path) -> None:
    torch.manual_seed(0)
    net = Net(CASES[name]).eval()
    # a step near zero flips numbers
    all_forms_agree(net, X, tmp_path, noise=0.25, steps=2.01)


class Biased(nn.Module):
    """A learned bias and a causal mask in one sum, added in place."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.bias = nn.Conv2d(3, 4, 1), nn.Parameter(torch.randn(6, 6))

    def forward(self, x):
        y = self.a(x)
        mask = torch.full((y.shape[2], y.shape[2]), -1e9).triu(1)
        scores = y @ y.transpose(-1, -2)
        scores += self.bias + mask
        return torch.softmax(scores.float(), -1).type_as(scores) @ y


class Encoder(nn.Module):
    """torch's own encoder with a mask, whose numbers it compares with those of a causal one."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(18, 2, 20, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x):
        return self.layers(x.transpose(1, 2).flatten(2), mask=self.mask)


@pytest.mark.parametrize("net", [Biased, Encoder])
def test_masks_of_whole_networks(net, tmp_path) -> None:
    torch.manual_seed(0)
    all_forms_agree(net().eval(), X, tmp_path, noise=0.25, steps=4.02)


@pytest.mark.parametrize("share", [False, True])
def test_a_learned_mask_and_one_that_is_read_elsewhere_stay_as_they_are(share) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 4, 1)
            far = torch.zeros(6).index_fill(0, torch.tensor([2]), -1e9)
            self.far = nn.Parameter(far) if not share else nn.Buffer(far)

        def forward(self, x):
            y = self.a(x) + self.far
            return (torch.softmax(y, -1), y * 2) if share else torch.softmax(y, -1)

    with pytest.raises(DiagnosticError) as caught:
        prepare(Masked().eval(), (X,), qconfig="horizon_qat")
    assert [d.code for d in caught.value.diagnostics] == ["QS613"]
