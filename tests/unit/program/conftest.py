"""A small program of every shape of thing: conv, requant, residual, LUT, int32 tail."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.ir import Provenance
from qatspec.program import Program, ProgramBuilder
from qatspec.types import Arithmetic


@pytest.fixture
def small() -> Program:
    builder = ProgramBuilder("small", "bayes", Arithmetic(multiplier_bits=16, rounding="half_up"))
    x = builder.input("image", "int8", (2, 4, 4), 1 / 128)
    rng = np.random.default_rng(0)
    w = builder.const("w", "int8", rng.integers(-127, 128, (3, 2, 3, 3)))
    b = builder.const("b", "int32", [5, -7, 100])
    scale = np.array([1e-4, 2e-4, 3e-4], np.float32)
    acc = builder.emit(
        "conv", [x, w, b], name="acc", scale=scale, scale_axis=1, stride=(1, 1),
        padding=(1, 1, 1, 1), dilation=(1, 1), groups=1,
        origin=Provenance(module="stem.conv", node="conv", source="net.py:7"),
    )  # fmt: skip
    m = builder.const("m", "int64", [40000, 50000, 60000])
    s = builder.const("s", "int64", [22])
    q = builder.emit(
        "requant", [acc, m, s], name="q", scale=[0.01], dtype="int8", axis=1, rounding="half_up",
        low=0, high=127,
    )  # fmt: skip
    table = builder.const("table", "int8", np.arange(-128, 128)[::-1])
    lut = builder.emit("lut", [q, table], name="lut", scale=[0.5], dtype="int8")
    return builder.finish([acc, lut], {"raw": 0, "both": [1, 0]})
