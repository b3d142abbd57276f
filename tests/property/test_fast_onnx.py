"""Random programs in onnxruntime's fast kernels: each layer is one integer away at most."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.export import OnnxRunner, to_onnx
from qatspec.export.exactness import layer_exactness
from qatspec.program import dump
from qatspec.referee import interpret

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("block", range(4))
def test_random_programs(block, unsigned, random_program, tmp_path):
    seen = set()
    for seed in range(block * 15, block * 15 + 15):
        program, x = random_program(seed, unsigned=unsigned)
        seen |= {value.dtype for value in program.values.values()}
        to_onnx(program, tmp_path / "exact.onnx")
        exact = OnnxRunner.load(tmp_path / "exact.onnx", threads=1).run(x)
        to_onnx(program, tmp_path / "fast.onnx", exact=False)
        fast = OnnxRunner.load(tmp_path / "fast.onnx", threads=1).run(x)
        for wanted, mine, other, own in zip(
            interpret(program, x), program.run(x), exact, fast, strict=True
        ):
            assert np.array_equal(wanted, mine) and np.array_equal(wanted, other), dump(program)
            assert (own.dtype, own.shape) == (wanted.dtype, wanted.shape)
        layers = layer_exactness(program, [[x]])
        assert all(layer.max_lsb <= 1 for layer in layers.values()), (seed, dump(program))
    assert ("uint8" in seen) == unsigned
