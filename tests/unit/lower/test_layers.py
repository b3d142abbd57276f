"""Every op in every setting of `tests.layers`: the integers on the interpreter, the executor and
onnxruntime, and the Q/DQ file, against the fake-quant model (contracts 16)."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch

from qatspec.lower import lower
from qatspec.onnx import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.program import interpret
from tests.layers import LAYERS, images, layer

#: Two fake-quants in a row: the value joined, and the result.
TWICE = ("cat", "cat last", "stack", "cat constant")

ort = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", LAYERS)
def test_layer(name, settled, tmp_path):
    x = images(name)
    prepared = settled(layer(name), x, quantize_output=True)
    program = lower(prepared, (x,))
    ints = program.quantize(x.numpy())
    (found,) = program.run(*ints)
    (referee,) = interpret(program, *ints)
    assert np.array_equal(found, referee)
    to_onnx(program, tmp_path / "converted.onnx")
    assert np.array_equal(
        OnnxRunner.load(tmp_path / "converted.onnx", threads=1).run(*ints)[0], found
    )

    with torch.no_grad():
        expected = prepared.model(x).numpy()
    step = program.outputs[0].scale[0] * (2.001 if name in TWICE else 1.001)
    assert expected.shape == found.shape
    assert np.abs(expected - program.dequantize([found])[0]).max() <= step
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    onnx.checker.check_model(onnx.load(tmp_path / "qat.onnx"), full_check=True)
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        (real,) = _run(tmp_path / "qat.onnx", x.numpy(), level)
        assert np.abs(expected - real).max() <= step, level
    again = np.concatenate([x.numpy()] * 2)  # another batch
    assert _run(tmp_path / "qat.onnx", again, "ORT_ENABLE_ALL")[0].shape[0] == 4


def _run(path, x, level):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})
