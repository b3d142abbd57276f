"""Doors: what run takes, and how results nest."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.ir import unflatten
from qatspec.referee import interpret


@pytest.mark.parametrize(
    "arrays",
    [
        [],
        [np.zeros((1, 2, 4, 4), np.float32)],
        [np.zeros((1, 2, 4, 4), np.int32)],
        [np.zeros((2, 4, 4), np.int8)],
        [np.zeros((1, 2, 4, 5), np.int8)],
        [np.zeros((0, 2, 4, 4), np.int8)],
        [np.zeros((1, 2, 4, 4), np.int8)] * 2,
    ],
)
def test_arrays_that_do_not_fit(arrays, small):
    for run in (small.run, lambda *a: interpret(small, *a)):
        with pytest.raises(DiagnosticError) as caught:
            run(*arrays)
        assert caught.value.diagnostics[0].code == "QS712"


def test_floats_go_through_quantize_and_dequantize(small):
    image = np.random.default_rng(0).uniform(-1.2, 1.2, (3, 2, 4, 4))
    ints = small.quantize(image)
    assert ints[0].dtype == np.int8
    raw, gate = small.dequantize(small.run(*ints))
    assert raw.shape == (3, 3, 4, 4)
    expected = interpret(small, *ints)[0] * small.outputs[0].scale.reshape(1, 3, 1, 1)
    assert np.array_equal(raw, expected.astype(np.float32))
    assert gate.dtype == np.float32


def test_quantize_rounds_half_to_even_and_saturates(small):
    port = small.inputs[0]
    x = np.full((1, 2, 4, 4), 0.5 / 128, np.float32)
    x[0, 0] = [[1.5 / 128, 2.5 / 128, -0.5 / 128, 5.0]] * 4
    assert port.quantize(x)[0, 0, 0].tolist() == [2, 2, 0, 127]
    assert port.quantize(x)[0, 1].max() == 0


def test_unflatten(small):
    tree = unflatten(small.tree, ["a", "b"])
    assert tree == {"raw": "a", "both": ["b", "a"]}
    assert unflatten(0, ["a"]) == "a"
