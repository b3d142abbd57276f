"""Random nets of torch ops: interpreter == executor == onnxruntime, every integer, and lowering
never raises. `tests/bench/random_graphs.py` runs as many as one likes."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.export import OnnxRunner, to_onnx
from qatspec.lower import lower
from qatspec.program import dump
from qatspec.referee import interpret
from tests.random_nets import random_net

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("block", range(4))
def test_three_ways_one_result(block, tmp_path):
    for seed in range(block * 10, block * 10 + 10):
        prepared, x = random_net(seed)
        program = lower(prepared, (x,))
        ints = program.quantize(x.numpy())
        to_onnx(program, tmp_path / "a.onnx")
        expected = interpret(program, *ints)
        for way in (program, OnnxRunner.load(tmp_path / "a.onnx", threads=1)):
            for found, wanted in zip(way.run(*ints), expected, strict=True):
                assert np.array_equal(found, wanted), (seed, dump(program))
