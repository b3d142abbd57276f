"""The example of every op, and every setting of `tests.layers`: the integers on the interpreter,
the executor and onnxruntime, and the Q/DQ file, against the fake-quant model (rule: one step of
accuracy)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.lower import lower
from qatspec.referee import interpret
from tests.layers import EXAMPLES, LAYERS, images, layer
from tests.nets import check_onnx

#: Fake-quants in a row: the value joined (or the divisor, or the probabilities), and the result.
TWICE = (
    "example of cat", "cat last", "example of stack", "cat constant", "div by a column",
    "attention in one call",
)  # fmt: skip

#: Rows of the example, which is a batch of 2: batches of 2, 1 and 3.
BATCHES = ([0, 1], [1], [1, 0, 1])

ort = pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("name", [*EXAMPLES, *LAYERS])
def test_layer(name, settled, tmp_path):
    x = images(name)
    prepared = settled(layer(name), x, quantize_output=True)
    program = lower(prepared, (x,))
    ints = program.quantize(x.numpy())
    (found,) = program.run(*ints)
    (referee,) = interpret(program, *ints)
    assert np.array_equal(found, referee)
    to_onnx(program, tmp_path / "converted.onnx")
    check_onnx(tmp_path / "converted.onnx")
    runner = OnnxRunner.load(tmp_path / "converted.onnx", threads=1)
    for rows in BATCHES:
        assert np.array_equal(runner.run(*(i[rows] for i in ints))[0], found[rows])

    with torch.no_grad():
        expected = prepared.model(x).numpy()
    step = program.outputs[0].scale[0] * (2.001 if name in TWICE else 1.001)
    assert expected.shape == found.shape
    assert np.abs(expected - program.dequantize([found])[0]).max() <= step
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    check_onnx(tmp_path / "qat.onnx")
    for level in ("ORT_DISABLE_ALL", "ORT_ENABLE_ALL"):
        session = _session(tmp_path / "qat.onnx", level)
        for rows in BATCHES:
            (real,) = session.run(None, {session.get_inputs()[0].name: x.numpy()[rows]})
            assert np.abs(expected[rows] - real).max() <= step, level


def _session(path, level):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
