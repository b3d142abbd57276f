"""Places of maxima and what is counted from them: int32 of scale 1, exactly torch's integers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.lower import lower
from qatspec.ops.floor_division.quantize import reciprocal
from qatspec.referee import interpret


class Places(nn.Module):
    def __init__(self, count):
        super().__init__()
        self.stem, self.count = nn.Conv2d(3, 4, 3, 2, 1), count
        self.register_buffer("offsets", torch.arange(4) * 100_000_007)

    def forward(self, x):
        return self.count(self, self.stem(x).flatten(2).argmax(2))


def rows_and_columns(net, place):
    rows = place // 9
    return torch.stack((rows, place - rows * 9, place.floor_divide(8)), 1)


CASES = {
    "rows and columns": rows_and_columns,
    "a number": lambda net, place: 1000 - (place + 3) * 3,
    "offsets": lambda net, place: place + net.offsets,
    "bounds": lambda net, place: (place * 2 - 40).clamp(-7, 11) + place,
    "a negative by a power of two": lambda net, place: (place - 50) // 4,
}


@pytest.mark.parametrize("count", CASES.values(), ids=CASES)
def test_equal_to_torch(settled, tmp_path, count):
    pytest.importorskip("onnxruntime")
    x = torch.randn(2, 3, 18, 18)
    prepared = settled(Places(count), x, quantize_output=True)
    program = lower(prepared, (x,))
    (port,) = program.outputs
    assert (port.dtype, port.scale.tolist()) == ("int32", [1.0])
    to_onnx(program, tmp_path / "places.onnx")
    runner = OnnxRunner.load(tmp_path / "places.onnx", threads=1)
    for images in (x[:1], torch.randn(3, 3, 18, 18)):
        ints = program.quantize(images.numpy())
        (found,) = program.run(*ints)
        with torch.no_grad():
            assert np.array_equal(found, prepared.model(images).numpy())
        assert np.array_equal(found, interpret(program, *ints)[0])
        assert np.array_equal(found, runner.run(*ints)[0])


@pytest.mark.parametrize(
    ("count", "message"),
    [
        (lambda net, place: (place - 50) // 3, "no multiplier divides every integer"),
        (lambda net, place: place // -3, "by a positive Python integer"),
        (lambda net, place: place // (net.offsets + 1), "by a positive Python integer"),
        (lambda net, place: place * 2_000_000_000, "int32 holds"),
        (lambda net, place: place + 5_000_000_000, "more than 32 bits"),
    ],
)
def test_what_int32_cannot_do(settled, count, message):
    x = torch.randn(2, 3, 18, 18)
    prepared = settled(Places(count), x, quantize_output=True)
    with pytest.raises(DiagnosticError, match=message):
        lower(prepared, (x,))


@pytest.mark.parametrize("divisor", [1, 2, 3, 7, 9, 64, 80, 641, 65_535])
def test_reciprocal_is_exact(divisor):
    """For every integer of 16 bits, and at the edges of the last thousand quotients."""
    for high in (divisor, 65_535, 2**26):
        found = reciprocal(divisor, 0, high)
        assert found is not None
        m, s = found
        edges = np.arange(max(high // divisor - 1000, 1), high // divisor + 1) * divisor
        x = np.concatenate((np.arange(min(high, 65_535) + 1), edges, edges - 1))
        assert np.array_equal((x * m) >> s, x // divisor)
    assert (reciprocal(divisor, -5, 5) is None) == (divisor not in (1, 2, 64))
