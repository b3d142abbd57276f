"""Tensors that have the batch elsewhere than in front, or merged with other dims."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.analyze.compare import compare_layers
from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.lower import lower
from qatspec.program import digest
from qatspec.referee import interpret


class Net(nn.Module):
    """16 tokens of 8 channels, and what `body` makes of them."""

    def __init__(self, body):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.first, self.second, self.third, self.last = (nn.Linear(8, 8) for _ in range(4))
        self.norm = nn.LayerNorm(8)
        self.places = nn.Parameter(torch.randn(16, 8))
        self.body = body

    def forward(self, x):
        return self.body(self, self.stem(x).flatten(2).transpose(1, 2))


def heads_in_the_batch(net, x):
    n, tokens, _ = x.shape
    q, k, v = (
        f(x + net.places).reshape(n, tokens, 2, 4).transpose(1, 2).flatten(0, 1)
        for f in (net.first, net.second, net.third)
    )
    y = torch.bmm(torch.softmax(q.bmm(k.transpose(1, 2)) / 2, -1), v)
    return net.last(y.unflatten(0, (-1, 2)).transpose(1, 2).flatten(2))


def tokens_first(net, x):
    """As torch's own multi-head attention has it."""
    x = net.norm(x.permute(1, 0, 2) + net.places.unsqueeze(1))
    tokens, n, channels = x.shape
    q, k, v = (
        f(x).contiguous().view(tokens, n * 2, 4).transpose(0, 1)
        for f in (net.first, net.second, net.third)
    )
    y = torch.bmm(torch.softmax(torch.bmm(q / 2, k.transpose(1, 2)), -1), v)
    y = y.transpose(0, 1).contiguous().view(tokens * n, channels)
    return net.last(y).view(tokens, n, channels).mean(0)


def heads_unbound(net, x):
    n, tokens, _ = x.shape
    qkv = torch.stack((net.first(x), net.second(x), net.third(x)))
    q, k, v = qkv.reshape(3, n, tokens, 2, 4).permute(0, 1, 3, 2, 4).unbind(0)
    y = torch.softmax(q @ k.transpose(-2, -1), -1) @ v
    return net.last(y.transpose(1, 2).reshape(n, tokens, 8))


def windows(net, x):
    """Attention within 2x2 windows."""
    n = x.shape[0]
    w = x.reshape(n, 2, 2, 2, 2, 8).permute(0, 1, 3, 2, 4, 5).reshape(-1, 4, 8)
    w = w + net.last(torch.softmax(net.first(w) @ net.second(w).transpose(1, 2), -1) @ net.third(w))
    w = torch.cat((w, net.norm(w)), dim=2).chunk(2, 2)[1][:, 1:]
    return w.amax(1).view(n, 4, 8).flatten(1)


def patches_as_rows(net, x):
    n = x.shape[0]
    y = x.transpose(1, 2).reshape(n * 8 * 2, 2, 2, 2).transpose(1, 2)
    y = y.reshape(n, 8, 4, 4).transpose(1, 3).reshape(n * 4, 4, 8)
    return net.last(torch.sigmoid(y) * y).view(n, 4, 4, 8).transpose(1, 3)


def rows_of_all_images(net, x):
    n = x.shape[0]
    y = net.first(x.reshape(-1, 8)) - x.flatten(0, 1)
    return torch.maximum(y, x.reshape(n * 16, 8)).unsqueeze(0).squeeze(0).view(n, 16, 8)


BODIES = (
    heads_in_the_batch, tokens_first, heads_unbound, windows, patches_as_rows, rows_of_all_images,
)  # fmt: skip


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body.__name__)
def test_every_way(settled, tmp_path, body):
    """The same Program from an example of one image and of two; at any batch equal on the
    interpreter, the executor and onnxruntime; every layer within the march's bound of the
    fake-quant model given equal inputs."""
    pytest.importorskip("onnxruntime")
    x = torch.randn(2, 3, 16, 16)
    prepared = settled(Net(body), x, quantize_output=True)
    program = lower(prepared, (x,))
    assert digest(program) == digest(lower(prepared, (x[:1],)))
    to_onnx(program, tmp_path / "net.onnx")
    runner = OnnxRunner.load(tmp_path / "net.onnx", threads=1)
    for images in (torch.randn(1, 3, 16, 16), torch.randn(3, 3, 16, 16)):
        ints = program.quantize(images.numpy())
        (found,) = program.run(*ints)
        assert np.array_equal(found, interpret(program, *ints)[0])
        assert np.array_equal(found, runner.run(*ints)[0])
        with torch.no_grad():
            expected = prepared.model(images)
        assert found.shape == tuple(expected.shape)
        steps = np.abs(program.dequantize([found])[0] - expected.numpy()) / program.outputs[0].scale
        assert steps.max() < 4 and steps.mean() < 1
    for layer in compare_layers(prepared, [(torch.randn(3, 3, 16, 16),)]).layers:
        assert layer.local.largest <= layer.bound, layer


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (lambda net, x: x.transpose(0, 1), "no dim in front that is the batch alone"),
        (lambda net, x: x.flatten(0, 1), "no dim in front that is the batch alone"),
        (lambda net, x: torch.softmax(x.transpose(0, 1), 1), "sums over the batch"),
        (lambda net, x: x.transpose(0, 1).cumsum(1), "sums over the batch"),
        (lambda net, x: torch.cat((x, x)).view(2, -1, 16, 8).mean(0), "joins along the batch"),
        (lambda net, x: x.transpose(0, 1)[:3].reshape(2, 3, 8), "from image to image"),
        (lambda net, x: x.flatten(0, 1)[:3], "slices the batch"),
        (lambda net, x: x.permute(1, 2, 0)[:, :, :1], "slices the batch"),
        (lambda net, x: x.transpose(0, 1)[:2] + x[:, :2], "batch in different dims"),
        (lambda net, x: nn.functional.max_pool2d(x.transpose(0, 1), 2), "takes pictures"),
        (lambda net, x: x[:1].squeeze(0), "slices the batch"),
    ],
)
def test_what_would_mix_images(settled, body, message):
    x = torch.randn(2, 3, 16, 16)
    prepared = settled(Net(body), x, quantize_output=True)
    with pytest.raises(DiagnosticError, match=message) as refused:
        lower(prepared, (x,))
    assert all(d.help for d in refused.value.diagnostics)
