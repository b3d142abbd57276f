"""onnxruntime on the converted file == interpreter, every integer, over random programs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from qatspec.export.converted import to_onnx
from qatspec.export.runner import OnnxRunner
from qatspec.program import digest, dump
from qatspec.referee import interpret


@pytest.mark.parametrize("block", range(4))
def test_onnxruntime_equals_interpreter(block, random_program, tmp_path):
    for seed in range(block * 20, block * 20 + 20):
        program, x = random_program(seed)
        path = tmp_path / f"{seed}.onnx"
        to_onnx(program, path)
        runner = OnnxRunner.load(path, threads=1)
        assert (runner.program, runner.march, runner.tree) == (
            digest(program), program.march, program.tree,
        )  # fmt: skip
        expected = interpret(program, x)
        for found, wanted in zip(runner.run(x), expected, strict=True):
            assert found.dtype == wanted.dtype
            assert np.array_equal(found, wanted), (seed, dump(program))
        for port, again in zip(program.outputs, runner.outputs, strict=True):
            assert np.array_equal(port.scale, again.scale)


def test_same_program_same_bytes(random_program, tmp_path):
    for seed in range(5):
        program, _ = random_program(seed)
        to_onnx(program, tmp_path / "a.onnx")
        to_onnx(program, tmp_path / "b.onnx")
        assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
        model = onnx.load(tmp_path / "a.onnx")
        assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"


@pytest.mark.parametrize("opset", [18, 19, 21])
def test_later_opsets_hold_the_same_integers(opset, random_program, tmp_path):
    for seed in range(12):
        program, x = random_program(seed)
        to_onnx(program, tmp_path / "a.onnx", opset=opset)
        assert onnx.load(tmp_path / "a.onnx").opset_import[0].version == opset
        runner = OnnxRunner.load(tmp_path / "a.onnx", threads=1)
        for found, wanted in zip(runner.run(x), program.run(x), strict=True):
            assert np.array_equal(found, wanted), (seed, dump(program))
