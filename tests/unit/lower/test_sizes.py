"""Numbers that forward takes from shapes: the prepared model follows its own input, the Program and
the Q/DQ ONNX have the sizes of the deploy input and any batch."""

from __future__ import annotations

import math

import numpy as np
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import export_qat_onnx
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.referee import interpret


def a_loop(a, b):
    total = 0
    for i in range(a.shape[1]):
        total = total + a[:, i : i + 1]
    return total


def a_condition(a, b):
    return a[:, :, 1:-1, 1:-1] + b if a.shape[2] > b.shape[2] else a + b


def an_isinstance(a, b):
    size = a.shape[2] // 2
    return F.adaptive_avg_pool2d(a, (size, size) if isinstance(size, int) else size)


def centred(a, b):
    d = (a.size(2) - b.size(2)) // 2
    return torch.cat([a[:, :, d : d + b.size(2), d : d + b.size(3)], b], 1)


def padded_back(a, b):
    dy, dx = a.shape[2] - b.shape[2], a.shape[3] - b.shape[3]
    return a + F.pad(b, (dx // 2, dx - dx // 2, dy // 2, dy - dy // 2))


def rows(a, b):
    y = torch.arange(a.shape[2]).view(1, 1, -1, 1).expand(a.shape[0], 1, -1, a.shape[3])
    return torch.cat([a, y.float() / a.shape[2]], 1)


def heads(a, b):
    n, c, h, w = a.shape
    q = a.view(n, 2, c // 2, h * w).transpose(2, 3)
    return (q @ q.transpose(-1, -2) * (c // 2) ** -0.5).softmax(-1) @ q


def a_list(a, b):
    size = list(a.shape)
    size[1] //= 2
    size.insert(1, 2)
    return a.view(size)


def in_place(a, b):
    a = a[:, :, : b.shape[2], : b.shape[3]]
    a += b
    return a


def split_in_halves(a, b):
    half = a.shape[1] // 2
    x, y = a.split([half, a.shape[1] - half], 1)
    return x * y


def quotient_and_rest(a, b):
    q, r = divmod(a.shape[2], 5)
    return a[:, :, : q + r]


def filled(a, b):
    n, _, h, w = a.shape
    return torch.cat([a, torch.zeros(n, 1, h, w), torch.full((n, 1, h, w), 0.5)], 1)


FOLLOWS = {
    "crop": lambda a, b: a[:, :, : b.shape[2], : b.shape[3]] + b,
    "crop from the end": lambda a, b: a[:, :, 1 : -(a.shape[2] - b.shape[2] - 1), 1:-1] + b,
    "halves": lambda a, b: a[:, : a.size(1) // 2] * a[:, a.size(1) // 2 :].sigmoid(),
    "tokens": lambda a, b: a.flatten(2)[:, :, : b.shape[2]] + 1.0,
    "one row": lambda a, b: a[:, :, a.shape[2] - 1] + a[:, :, a.shape[2] // 2],
    "min": lambda a, b: a[:, :, : min(a.shape[2], 14)],
    "max of two": lambda a, b: a[:, :, : max(b.shape[2:])],
    "ceil": lambda a, b: a[:, :, : math.ceil(a.shape[2] / 2)],
    "int of a product": lambda a, b: a[:, :, : int(a.shape[2] * 0.4)],
    "round": lambda a, b: a[:, :, : round(a.shape[2] * 0.3)],
    "float as a factor": lambda a, b: a * float(a.shape[2]) ** -0.5,
    "size of a resize": lambda a, b: F.interpolate(b, size=a.shape[-2:]) + a,
    "scale of a resize": lambda a, b: F.interpolate(b, scale_factor=a.shape[2] / b.shape[2]),
    "int sizes of a resize": lambda a, b: F.interpolate(b, [int(s / 2) for s in a.shape[2:]]),
    "view": lambda a, b: a.view(a.shape[0], -1, a.shape[2] * a.shape[3]).transpose(1, 2),
    "view by len": lambda a, b: a.view(len(a), -1),
    "view_as": lambda a, b: a.flatten(2).view_as(a) + a,
    "sum of shapes": lambda a, b: a.reshape(a.shape[:2] + (-1,)),  # noqa: RUF005
    "math.prod": lambda a, b: a.view(a.shape[0], math.prod(a.shape[1:])),
    "numel": lambda a, b: a / (a.numel() // a.shape[0]),
    "arange": lambda a, b: a * (torch.arange(a.shape[3]) < 6),
    "linspace": lambda a, b: a + torch.linspace(-1, 1, a.shape[3]),
    "zeros_like": lambda a, b: torch.cat([a, torch.zeros_like(a[:, :1])], 1),
    "new_ones": lambda a, b: torch.cat([a, a.new_ones(a.shape[0], 2, *a.shape[2:])], 1),
    "torch.tensor": lambda a, b: a / torch.tensor(float(a.shape[1])).sqrt(),
    "alpha": lambda a, b: torch.add(a[:, :, 1:-1, 1:-1], b, alpha=1 / a.shape[1]),
    "kernel": lambda a, b: F.avg_pool2d(a, (a.shape[2] // 2, a.shape[3] // 2)),
    "narrow": lambda a, b: a.narrow(2, 1, b.shape[2]) * 2.0,
    "the whole batch": lambda a, b: a[: a.shape[0]] * 2.0,
    "expand": lambda a, b: a.new_full((a.shape[1], 1, 1), 0.5).expand(a.shape[1:]) + a,
    "norm": lambda a, b: F.layer_norm(a, a.shape[1:]),
    "attention": lambda a, b: F.scaled_dot_product_attention(a, a, a),
} | {f.__name__: f for f in (
    an_isinstance, centred, padded_back, rows, heads, a_list, in_place, split_in_halves,
    quotient_and_rest, filled, a_condition,
)}  # fmt: skip
#: Steps of two roundings in a row, or of the bounds that a norm's own integers have.
STEPS = {"norm": 3, "padded_back": 2, "heads": 2, "attention": 2}


class Net(nn.Module):
    def __init__(self, function):
        super().__init__()
        torch.manual_seed(0)
        self.c, self.d = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3)
        self.function = function

    def forward(self, x):
        a = self.c(x)
        return self.function(a, self.d(a))


def prepared(function, x):
    made = prepare(Net(function).eval(), (x,), qconfig="horizon_qat")
    with torch.no_grad():
        made.model(x)
    return made


@pytest.mark.parametrize("name", FOLLOWS)
@torch.no_grad()
def test_sizes(name, tmp_path):
    x = torch.randn(2, 3, 12, 12)
    net, made = Net(FOLLOWS[name]).eval(), prepared(FOLLOWS[name], x)
    for shape in ((1, 3, 12, 12), (3, 3, 16, 20), (2, 3, 21, 17)):
        other = torch.randn(shape)
        torch.testing.assert_close(made.model(other), net(other))
    set_stage(made, "qat")
    set_stage(made, "eval")
    export_qat_onnx(made, tmp_path / "net.onnx", (x,))
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    program = lower(made, (x,))
    bound = (STEPS.get(name, 1) + 0.01) * float(np.max(program.outputs[0].scale))
    for images in (x, x[:1], torch.cat([x, 0.5 * x])):
        want = made.model(images).numpy()
        integers = program.quantize(images.numpy())
        found = interpret(program, *integers)
        assert np.array_equal(program.run(*integers)[0], found[0])
        real = program.dequantize(found)[0]
        assert real.shape == want.shape
        assert np.abs(real - want).max() <= bound
        (exported,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
        assert exported.shape == want.shape
        assert np.abs(exported - want).max() <= bound


@torch.no_grad()
def test_the_deploy_size_is_another_one():
    made = prepared(FOLLOWS["tokens"], torch.randn(2, 3, 12, 12))
    assert lower(made, (torch.randn(1, 3, 20, 16),)).outputs[0].shape == (4, 18)


BY_SIZE = {
    "a loop": a_loop,
    "parts": lambda a, b: torch.cat([p * (i + 1) for i, p in enumerate(a.split(3, 2))], 2),
    "a list of rows": lambda a, b: torch.stack([a[:, :, i] for i in range(a.shape[2])][::-1], 2),
    "a key": lambda a, b: a * {12: 2.0}.get(a.shape[2], 3.0),
    "text": lambda a, b: a * {"12": 2.0, "13": 3.0}[str(a.shape[2])],
    "a condition": lambda a, b: a if a.shape[2] % 2 == 0 else F.pad(a, (0, 1)),
}


@pytest.mark.parametrize("name", BY_SIZE)
@torch.no_grad()
def test_a_decision_holds_for_one_size(name):
    x, other = torch.randn(2, 3, 12, 12), torch.randn(2, 3, 13, 12)
    net, made = Net(BY_SIZE[name]).eval(), prepared(BY_SIZE[name], x)
    torch.testing.assert_close(made.model(x[:1]), net(x[:1]))
    lower(made, (x,))
    if name == "a loop":  # over channels
        torch.testing.assert_close(made.model(other), net(other))
        return
    for call in (lambda: made.model(other), lambda: lower(made, (other,))):
        with pytest.raises(DiagnosticError, match="decides by") as error:
            call()
        (problem,) = error.value.diagnostics
        assert problem.code == "QS513" and problem.span.file.endswith("test_sizes.py")
    again = prepared(BY_SIZE[name], other)  # the way out
    torch.testing.assert_close(again.model(other), net(other))


#: what is refused -> what its help says to write.
BY_BATCH = {
    "a loop over images": (
        lambda a, b: torch.cat([a[i : i + 1] for i in range(a.shape[0])]), lambda a, b: a,
    ),
    "len": (lambda a, b: torch.stack([a[i] for i in range(len(a))]), lambda a, b: a),
    "a condition": (lambda a, b: a if a.shape[0] == 2 else a + a, lambda a, b: a),
    "numel": (lambda a, b: a / a.numel(), lambda a, b: a / a.shape[1:].numel()),
    "a factor": (lambda a, b: a * a.shape[0], lambda a, b: a * a.shape[1]),
    "a frozen size": (
        lambda a, b: a.view(torch.Size([a.shape[0], 4 * 144])), lambda a, b: a.view(len(a), 4 * 144)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BY_BATCH)
@pytest.mark.parametrize("batch", [1, 2])
def test_the_number_of_images_decides_nothing(name, batch):
    refused, way_out = BY_BATCH[name]
    x = torch.randn(batch, 3, 12, 12)
    with pytest.raises(DiagnosticError) as error:
        prepare(Net(refused).eval(), (x,), qconfig="horizon_qat")
    assert {d.code for d in error.value.diagnostics} == {"QS512"}
    assert all(d.span.file.endswith("test_sizes.py") for d in error.value.diagnostics)
    lower(prepared(way_out, x), (x,))


@pytest.mark.parametrize("index", [slice(0, 2), slice(None, -1), slice(1, None)])
def test_images_are_not_picked(index):
    x = torch.randn(2, 3, 12, 12)
    with pytest.raises(DiagnosticError, match=r"slices the batch|picks images"):
        lower(prepared(lambda a, b: a[index] * 2.0, x), (x,))


def test_files_are_as_they_were():
    names = ("int", "float", "min", "max", "len", "isinstance")
    before = torch.zeros, torch.arange
    prepared(FOLLOWS["min"], torch.randn(2, 3, 12, 12))
    assert not set(names) & set(globals()) and (torch.zeros, torch.arange) == before
