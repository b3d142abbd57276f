"""What a model computes from parameters alone: the numbers of the fake-quant model, wherever they
meet its tensors."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.analyze.compare import compare_layers
from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import set_stage
from qatspec.program import digest
from qatspec.referee import interpret


class Net(nn.Module):
    def __init__(self, body):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.table, self.other = nn.Embedding(20, 8), nn.Parameter(torch.randn(20, 8))
        self.linear, self.last = nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.dropout = nn.LayerNorm(8), nn.Dropout(0.5)
        self.register_buffer("index", torch.arange(16) % 5)
        self.body = body

    def forward(self, x):
        return self.last(self.body(self, self.stem(x).flatten(2).transpose(1, 2)))


def embedded(net, x):
    cells = torch.arange(x.shape[1])
    return x + net.table(net.index) - F.embedding(cells.floor_divide(4), net.other)


def queries(net, x):
    """As a decoder's first layer has it: linear layers, softmax and norms of constants alone."""
    q = net.table.weight[:16].unsqueeze(0).expand(x.shape[0], -1, -1)
    own = net.linear(net.dropout(q))
    q = net.norm(q + torch.softmax(own @ own.transpose(1, 2), -1) @ own)
    return torch.cat((q, x), 1) * 0.5


def vectors(net, x):
    return (x + net.other[0]) * net.other[1] + net.other[2:3] - net.other[3].reshape(1, 1, 8)


def products(net, x):
    return x * net.other[:16]


def tokens_first(net, x):
    x = x.transpose(0, 1) + net.other[:16].unsqueeze(1).repeat(1, x.shape[0], 1)
    return torch.cat((x, net.linear(net.other[:1]).expand(16, x.shape[1], 8)), 2)[..., 4:12].mean(0)


def heads(net, x):
    y = x.reshape(-1, 16, 4) + net.other[:8].reshape(1, 16, 4)
    return (y + net.other[:2].reshape(2, 1, 8)[:, :, :4].repeat(x.shape[0], 1, 1)).reshape(x.shape)


BODIES = (embedded, queries, vectors, products, tokens_first, heads)


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_constants(settled, body):
    """The same Program while calibrating and from an example of one image, the referee's integers,
    and layers within the march's bound of the fake-quant model."""
    x = torch.randn(2, 3, 16, 16)
    prepared = settled(Net(body), x, quantize_output=True)
    program = lower(prepared, (x,))
    set_stage(prepared, "calibration")  # fake-quants off
    assert digest(lower(prepared, (x[:1],))) == digest(program)
    set_stage(prepared, "eval")
    images = torch.randn(3, 3, 16, 16)
    ints = program.quantize(images.numpy())
    found = program.run(*ints)
    assert np.array_equal(found[0], interpret(program, *ints)[0])
    with torch.no_grad():
        expected = prepared.model(images).numpy()
    assert np.abs(program.dequantize(found)[0] - expected).max() < 4 * program.outputs[0].scale
    for layer in compare_layers(prepared, [(images,)]).layers:
        assert layer.local.largest <= layer.bound, layer


def test_a_constant_that_differs_from_image_to_image(settled):
    x = torch.randn(2, 3, 16, 16)
    body = lambda net, x: x + net.other[:2].unsqueeze(1)  # noqa: E731
    prepared = settled(Net(body), x, quantize_output=True)
    with pytest.raises(DiagnosticError, match="differs along the batch"):
        lower(prepared, (x,))
