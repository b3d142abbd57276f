"""The float ONNX form of every example, and of further spellings: traced with one batch and run
with others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.testing.nets import all_examples
from tests.layers import Op
from tests.unit.export.test_qdq import run

W, B = torch.linspace(-1.5, 1.5, 8), torch.linspace(0.5, -0.5, 8)
M, V = torch.linspace(-0.3, 0.3, 8), torch.linspace(0.5, 2.0, 8)
TABLE = torch.sin(torch.arange(48.0)).reshape(12, 4)


def _random(norm):
    for tensor in (norm.running_mean, norm.weight, norm.bias):
        nn.init.uniform_(tensor, -1.0, 1.0)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    return norm


def _heads(x, heads=2):
    """(N, L, C) to (N * heads, L, C / heads): the batch merges with the heads."""
    n, length, channels = x.shape
    return x.reshape(n, length, heads, channels // heads).transpose(1, 2).flatten(0, 1)


def _attention(x):
    q, k, v = _heads(x), _heads(x * 0.5), _heads(x + 0.1)
    share = F.softmax(q.bmm(k.transpose(1, 2)) / 2.0, dim=-1)
    return torch.bmm(share, v).unflatten(0, (-1, 2)).transpose(1, 2).flatten(2)


def _packed(x):
    """One tensor (3, N, heads, L, C / heads) for query, key and value."""
    n, length, channels = x.shape
    q, k, v = x.reshape(n, length, 3, 2, channels // 6).permute(2, 0, 3, 1, 4).unbind(0)
    return (q @ k.transpose(-2, -1) @ v).transpose(1, 2).reshape(n, length, channels // 3)


def _windows(x):
    """Patches of 2x2 in the batch, and back."""
    n, c, h, w = x.size()
    y = x.view(n * c * (h // 2), 2, w // 2, 2).transpose(1, 2).reshape(n, c, h * w // 4, 4)
    y = torch.softmax(y.transpose(1, 3).reshape(n * 4, h * w // 4, c), -1)
    return y.view(n, 4, h * w // 4, c).transpose(1, 3).reshape(n, c, h, w)


def _places(x, table):
    cells = torch.arange(x.shape[2] * x.shape[3], device=x.device) // x.shape[3]
    return x.flatten(2).transpose(1, 2) + F.embedding(cells, table)


def _steps(x, length):
    return x.permute(2, 0, 1)[length:]


#: name -> (shape without the batch, layer); results are floats, integers, or several of them.
CASES = {
    **{f"example of {e.op}": (e.shape[1:], e.build) for e in all_examples()},
    "LayerNorm 2-d": ((3, 8, 6), lambda: nn.LayerNorm((8, 6), eps=1e-3)),
    "LayerNorm plain": ((8, 6), lambda: nn.LayerNorm(6, elementwise_affine=False)),
    "LayerNorm no bias": ((8, 6), lambda: nn.LayerNorm(6, bias=False)),
    "F.layer_norm": ((6, 8), lambda: Op(lambda x, w, b: F.layer_norm(x, (8,), w, b, 1e-2), W, B)),
    "F.layer_norm named": (
        (6, 8), lambda: Op(lambda x, b: F.layer_norm(x, [8], bias=b, eps=1e-2), B)
    ),
    "torch.layer_norm": ((6, 8), lambda: Op(lambda x, w: torch.layer_norm(x, (6, 8), eps=0.1), W)),
    "GroupNorm flat": ((8,), lambda: nn.GroupNorm(2, 8)),
    "GroupNorm 5-d": ((8, 2, 3, 4), lambda: nn.GroupNorm(4, 8, affine=False)),
    "F.group_norm": ((8, 9), lambda: Op(lambda x, w, b: F.group_norm(x, 1, w, b, 1e-2), W, B)),
    "F.group_norm weight": ((8, 9), lambda: Op(lambda x, w: F.group_norm(x, 4, w), W)),
    "torch.group_norm": ((8, 3, 3), lambda: Op(lambda x, w, b: torch.group_norm(x, 8, w, b), W, B)),
    "InstanceNorm2d": ((8, 5, 4), lambda: _random(
        nn.InstanceNorm2d(8, eps=1e-2, affine=True, track_running_stats=True))),
    "InstanceNorm3d": ((8, 3, 3, 2), lambda: nn.InstanceNorm3d(8, affine=True)),
    "F.instance_norm": ((8, 9), lambda: Op(
        lambda x, w, b: F.instance_norm(x, weight=w, bias=b, eps=1e-2), W, B)),
    "F.instance_norm running": ((8, 9), lambda: Op(
        lambda x, m, v: F.instance_norm(x, m, v, use_input_stats=False), M, V)),
    "torch.instance_norm": ((8, 9), lambda: Op(
        lambda x, w, b: torch.instance_norm(x, w, b, None, None, True, 0.1, 1e-5, False), W, B)),
    "torch.instance_norm running": ((8, 9), lambda: Op(
        lambda x, w, b, m, v: torch.instance_norm(x, w, b, m, v, False, 0.1, 1e-2, False),
        W, B, M, V)),
    "F.log_softmax": ((8, 6), lambda: Op(lambda x: F.log_softmax(x, dim=-1))),
    "torch.log_softmax": ((8, 6), lambda: Op(lambda x: torch.log_softmax(x, 2))),
    "Tensor.log_softmax": ((8,), lambda: Op(lambda x: x.log_softmax(-1))),
    "softmax by rank": ((8,), lambda: Op(lambda x: F.softmax(x))),
    "torch.sign": ((8,), lambda: Op(lambda x: torch.sign(x) * x)),
    "torch.sgn": ((8,), lambda: Op(lambda x: torch.sgn(x) + x)),
    "Tensor.sgn": ((8,), lambda: Op(lambda x: x.sgn() * x)),
    "torch.argmax": ((8, 6), lambda: Op(lambda x: torch.argmax(x, dim=1, keepdim=True))),
    "Tensor.argmax": ((8, 6), lambda: Op(lambda x: x.argmax(-1))),
    "argmax of all": ((8, 6), lambda: Op(lambda x: x.argmax())),
    "argmax of all kept": ((8, 6), lambda: Op(lambda x: torch.argmax(x, keepdim=True))),
    "max with indices": ((8, 6), lambda: Op(lambda x: tuple(torch.max(x, 2)))),
    "max, its values": ((8, 6), lambda: Op(lambda x: x.max(1, keepdim=True)[0])),
    "max, its indices": ((8, 6), lambda: Op(lambda x: x.max(dim=-1)[1] + 1)),
    "max by field": ((8, 6), lambda: Op(lambda x: (lambda m: (m.values, m.indices))(x.max(1)))),
    "max of all": ((8, 6), lambda: Op(lambda x: x.mean(0, keepdim=True).max())),
    "amax": ((8, 6), lambda: Op(lambda x: torch.amax(x, (1, 2)))),
    "max of two": ((8,), lambda: Op(lambda x: torch.max(x, -0.5 * x))),
    "floor_divide": ((8,), lambda: Op(lambda x: torch.floor_divide(x, 0.3))),
    "floor_divide tensors": ((8,), lambda: Op(lambda x, w: x.floor_divide(w), 0.4 * W)),
    "floor_divide integers": ((8, 6), lambda: Op(lambda x: (x.argmax(1) - 4) // 3)),
    "floor_divide by a negative": ((8, 6), lambda: Op(lambda x: x.argmax(1) // -3)),
    "div floor": ((8,), lambda: Op(lambda x: torch.div(x, 0.25, rounding_mode="floor"))),
    "div trunc": ((8,), lambda: Op(lambda x: x.div(0.25, rounding_mode="trunc"))),
    "div trunc integers": ((8, 6), lambda: Op(
        lambda x: torch.div(x.argmax(1) - 4, 3, rounding_mode="trunc"))),
    "div tensors": ((8,), lambda: Op(lambda x: x / (x.abs() + 0.5))),
    "div integers": ((8, 6), lambda: Op(lambda x: x.argmax(1) / 4)),
    "reflected div": ((8,), lambda: Op(lambda x: 1.0 / (x.abs() + 0.5))),
    "integer arithmetic": ((8, 6), lambda: Op(lambda x: 7 - x.argmax(1).mul(2) * 3)),
    "integers and floats": ((8, 6), lambda: Op(lambda x: x.argmax(1) * 0.5 + x.mean(1))),
    "Embedding": ((12, 3), lambda: Op(lambda x, e: e(x.argmax(1)), nn.Embedding(12, 4))),
    "F.embedding": ((12, 3), lambda: Op(lambda x, w: F.embedding(x.argmax(1), w), TABLE)),
    "torch.embedding": ((12, 3), lambda: Op(lambda x, w: torch.embedding(w, x.argmax(1)), TABLE)),
    "embedded places": ((4, 3, 5), lambda: Op(_places, TABLE)),
    "bmm over heads": ((5, 8), lambda: Op(_attention)),
    "packed heads": ((5, 12), lambda: Op(_packed)),
    "windows in the batch": ((3, 4, 6), lambda: Op(_windows)),
    "batch second": ((3, 4), lambda: Op(lambda x: _steps(x, 1))),
    "repeated for heads": ((5, 8), lambda: Op(
        lambda x, w: _heads(x) + w[None, None, :4].expand(2 * x.shape[0], -1, -1), W)),
    "queries, image by image": ((12, 4), lambda: Op(
        lambda x, w: x.flatten(0, 1) + w.expand(x.shape[0], 12, 4).flatten(0, 1), TABLE)),
    "queries, place by place": ((12, 4), lambda: Op(
        lambda x, w: x.transpose(0, 1).flatten(0, 1) + w.repeat_interleave(x.shape[0], 0), TABLE)),
    "queries behind a dim": ((4, 12), lambda: Op(
        lambda x, w: x.transpose(0, 1).flatten(1) + w.t().repeat(1, x.shape[0]), TABLE)),
    "a number of positions": ((8, 6), lambda: Op(lambda x: x * x.shape[1] + x[:, 0].dim())),
    "clamp by tensors": ((8,), lambda: Op(lambda x, b: x.clamp(-0.4, 0.4).clamp(min=b), B)),
    "positions": ((8, 5), lambda: Op(lambda x: x[:, [2, 0, 1, 1, -1]])),
    "positions of the last dim": ((4, 6), lambda: Op(lambda x: x[..., [5, 0, 1, 2], None])),
    "positions in a tensor": ((8,), lambda: Op(lambda x: x[:, torch.tensor([3, 0, 7])])),
    **{
        f"max pool, kernel {k}, stride {s}, padding {p}, dilation {d} of {n}, {c}": (
            (3, n, 7), lambda k=k, s=s, p=p, d=d, c=c: nn.MaxPool2d(
                (k, 2), (s, 1), (p, 0), (d, 1), ceil_mode=c == "ceil"))
        for k, s, p, d, n, c in (
            (2, 2, 1, 2, 4, "ceil"), (2, 2, 1, 3, 9, "ceil"), (2, 3, 0, 3, 5, "ceil"),
            (3, 2, 1, 3, 8, "ceil"), (4, 4, 2, 2, 9, "ceil"), (3, 2, 1, 2, 9, "floor"),
        )
    },
    "max pool 1d, dilated": ((3, 5), lambda: nn.MaxPool1d(2, 3, 0, 3, ceil_mode=True)),
    "max pool 3d, dilated": ((2, 4, 5, 6), lambda: nn.MaxPool3d(2, 2, 1, 2, ceil_mode=True)),
}  # fmt: skip


def _leaves(result):
    found = []
    for leaf in pytree.tree_leaves(result):
        if not any(leaf is known for known in found):
            found.append(leaf)
    return found


def _outputs(prepared, path, x):
    with torch.no_grad():
        expected = [leaf.numpy() for leaf in _leaves(prepared.model(x))]
    found = run(path, x, optimized=False)
    for one, other in zip(found, expected, strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
    return zip(found, expected, strict=True)


@pytest.mark.parametrize("quantized", [False, True], ids=["float", "quantized"])
@pytest.mark.parametrize("name", CASES)
def test_op(name, quantized, settled, tmp_path):
    shape, layer = CASES[name]
    x, path = torch.randn(1, *shape), tmp_path / "a.onnx"
    options = {} if quantized else {"qconfig": {"": None}}
    prepared = settled(nn.Sequential(layer()), x, quantize_output=True, **options)
    export_qat_onnx(prepared, path, (x,))
    onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True)
    for batch in (x, torch.randn(3, *shape)):
        for found, expected in _outputs(prepared, path, batch):
            if not quantized:
                np.testing.assert_allclose(found, expected, rtol=1e-5, atol=2e-6)
            elif found.dtype == np.float32:  # a tie may fall to either side: one step of int8
                assert np.abs(found - expected).max() <= np.abs(expected).max() / 60
                assert (np.abs(found - expected) > 1e-5).sum() <= max(1, 0.05 * found.size)
            else:
                assert np.array_equal(found, expected)


@pytest.mark.parametrize("batch", [1, 2])
def test_a_model_for_one_batch(batch, settled, tmp_path):
    """Its own code says how many images there are, and so does its file."""
    x = torch.randn(batch, 4, 6)
    prepared = settled(Op(lambda x: F.relu(x.view(batch, 24) * 2)), x, quantize_output=True)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    for value in (*(model := onnx.load(tmp_path / "a.onnx")).graph.input, *model.graph.output):
        assert value.type.tensor_type.shape.dim[0].dim_value == batch
    for found, expected in _outputs(prepared, tmp_path / "a.onnx", x):
        assert np.array_equal(found, expected)


def test_sizes_of_the_outputs(settled, tmp_path):
    """A size that is no batch says how it follows it."""
    x = torch.randn(2, 5, 8)
    net = Op(lambda x, w: (_heads(x), x.transpose(0, 1), w * 2, torch.cat([x, x[:, :1]], 1)), W)
    prepared = settled(net, x, quantize_output=True)
    export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    outputs = onnx.load(tmp_path / "a.onnx").graph.output
    sizes = [[d.dim_param or d.dim_value for d in o.type.tensor_type.shape.dim] for o in outputs]
    assert sizes == [["2*batch", 5, 4], [5, "batch", 8], [8], ["batch", 6, 8]]
    for found, expected in _outputs(prepared, tmp_path / "a.onnx", torch.randn(5, 5, 8)):
        assert np.abs(found - expected).max() <= np.abs(expected).max() / 60


REFUSED = {
    "the batch indexed": (lambda x: x[0], "of the batch"),
    "the batch taken apart": (lambda x: torch.stack(x.unbind(0)), "splitting the batch"),
    "a number of the image": (
        lambda x: x + torch.arange(x.shape[0])[:, None, None], "differs along the batch"
    ),
    "rows that are rescaled": (
        lambda x, rows: rows(x.argmax(1)), "rescales its rows", nn.Embedding(12, 3, max_norm=1.0)
    ),
    "weights from the input": (lambda x: F.layer_norm(x, (6,), x.mean((0, 1))), "computed from"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name, settled, tmp_path):
    function, message, *parts = REFUSED[name]
    x = torch.randn(2, 8, 6)
    prepared = settled(Op(function, *parts), x, quantize_output=True)
    with pytest.raises(DiagnosticError) as caught:
        export_qat_onnx(prepared, tmp_path / "a.onnx", (x,))
    (found,) = caught.value.diagnostics
    assert found.code == "QS724"
    assert message in found.message
    assert found.help
