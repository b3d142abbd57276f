"""The inputs that a spec states, as arguments of forward: names, order, examples, scales."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.prepare.capture import Call
from qatspec.prepare.inputs import example_inputs, forward_inputs, random_inputs
from qatspec.spec import InputSpec, TensorSpec

A = TensorSpec(shape=(3,), scale=0.5)
B = InputSpec(size=(4, 6), scale=0.25)
IDS = TensorSpec(shape=(5,), dtype="int64", range=(2, 9))


def spec(**inputs):
    return SimpleNamespace(inputs=inputs)


def net(forward):
    return type("Net", (nn.Module,), {"forward": forward})()


def codes_at(caught):
    return [(d.code, d.at) for d in caught.value.diagnostics]


def test_they_come_in_the_order_of_forward():
    model = net(lambda self, a, b, c=None: a)
    assert list(forward_inputs(spec(b=B, a=A), model)) == ["a", "b"]
    assert list(forward_inputs(spec(c=IDS, b=B, a=A), model)) == ["a", "b", "c"]


REFUSED = [
    (lambda self, a, b: a, {"a": A}, [""], "add `b: {shape: [...]}`"),
    (lambda self, a: a, {"a": A, "b": B}, ["/b"], "delete it"),
    (lambda self, alpha: alpha, {"alpa": A}, ["/alpa"], "did you mean `alpha`?"),
    (lambda self, a, x=None, b=None: a, {"a": A, "b": B}, [""], "move the argument behind"),
    (lambda self, *inputs: inputs, {"a": A, "b": B}, [""], "def forward(self, a, b)"),
    (lambda self, **inputs: inputs, {"a": A}, [""], "def forward(self, a)"),
    (lambda self, a, *, b: a, {"a": A, "b": B}, ["/b"], "by position"),
    (lambda self, a: a, {"x": A, "y": B}, ["/x", "/y", ""], "known: `a`"),
]


@pytest.mark.parametrize(("forward", "inputs", "places", "advice"), REFUSED)
def test_names_that_do_not_fit(forward, inputs, places, advice):
    with pytest.raises(DiagnosticError) as caught:
        forward_inputs(spec(**inputs), net(forward))
    assert codes_at(caught) == [("QS520", f"/model/inputs{place}") for place in places]
    assert advice in caught.value.diagnostics[0].help
    assert caught.value.diagnostics[0].notes[0].span.file == __file__


def test_one_picture_for_a_forward_of_two():
    with pytest.raises(DiagnosticError) as caught:
        forward_inputs(spec(**{"": B}), net(lambda self, rgb, depth: rgb))
    assert codes_at(caught) == [("QS520", "/model/input")]
    assert (
        "inputs: {rgb: {size: [4, 6]}, depth: {shape: [...]}}" in caught.value.diagnostics[0].help
    )


def test_examples_have_shapes_dtypes_and_numbers_of_the_range():
    a, b, ids = example_inputs({"a": A, "b": B, "ids": IDS}, 2)
    assert a.shape == (2, 3) and b.shape == (2, 3, 4, 6) and ids.shape == (2, 5)
    assert (a.dtype, ids.dtype) == (torch.float32, torch.int64)
    assert set(ids.flatten().tolist()) == {2}


def test_random_numbers_lie_in_the_range():
    inputs = {"a": TensorSpec(shape=(400,), range=(3, 5)), "b": B, "ids": IDS}
    examples = example_inputs({**inputs, "ids": TensorSpec(shape=(400,), dtype="int32")}, 1)
    a, b, ids = random_inputs(examples, inputs)
    assert 3 <= a.min() < 3.1 and 4.9 < a.max() <= 5
    assert -1 <= b.min() < 0 < b.max() < 1
    assert set(ids.flatten().tolist()) == set(range(2, 10)) and ids.dtype == torch.int32
    assert all(map(torch.equal, random_inputs(examples, inputs), (a, b, ids)))


def test_an_argument_has_the_scale_of_the_input_that_it_is():
    a, b = torch.zeros(1, 3), torch.zeros(1, 3, 4, 6)
    model = net(lambda self, x, y, z=None: x)
    assert Call((a, b), {}).scales(model, (a, b), (0.5, None)) == (0.5, None)
    assert Call((b,), {"y": a}).scales(model, (a, b), (0.5, 0.25)) == (0.25, 0.5)
    assert Call((b.mean((2, 3)), a[:, :2]), {}).scales(model, (a, b), (0.5, 0.25)) == (None, 0.5)
    swapped = Call((), {"y": a, "x": b}).scales(model, (a, b), (0.5, 0.25))
    assert swapped == (0.25, 0.5)  # in the order of the placeholders
