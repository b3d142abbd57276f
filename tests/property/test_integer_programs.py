"""interpreter == fast executor == saved and loaded, every integer, over random programs."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.kinds import ranges
from qatspec.program import dump, verify
from qatspec.program.serde import from_bytes, to_bytes
from qatspec.referee import interpret_all


@pytest.mark.parametrize("block", range(8))
def test_executor_equals_interpreter(block, random_program):
    for seed in range(block * 25, block * 25 + 25):
        program, x = random_program(seed)
        assert verify(program) == []
        values = interpret_all(program, x)
        for port, found in zip(program.outputs, program.run(x), strict=True):
            assert found.dtype == values[port.name].dtype
            assert np.array_equal(found, values[port.name]), (seed, dump(program))
        for name, interval in ranges(program).items():
            assert interval.low.min() <= values[name].min(), (seed, name)
            assert values[name].max() <= interval.high.max(), (seed, name)


def test_saved_programs_are_the_same(random_program):
    for seed in range(40):
        program, x = random_program(seed)
        data = to_bytes(program)
        again = from_bytes(data)
        assert to_bytes(again) == data
        assert dump(again) == dump(program)
        for a, b in zip(again.run(x), program.run(x), strict=True):
            assert np.array_equal(a, b)
