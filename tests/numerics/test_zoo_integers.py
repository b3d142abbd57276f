"""Nets of the zoo, at their test size: each lowers, exports and runs in onnxruntime, every integer
as by the executor and by the interpreter; both forms of its Q/DQ file give equal numbers (each
third net); and in onnxruntime's fast kernels, with unsigned activations, every layer is one integer
away at most (each sixth net). `pytest --full` takes all of them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from qatspec.api import layer_exactness
from qatspec.export import OnnxRunner, export_qat_onnx, to_onnx
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.referee import interpret
from tests.nets import check_onnx, settle
from tests.sample import sample
from tests.unit.export.test_qdq import run
from tests.zoo.zoo import nets

pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("net", sample(nets(), 6, start=1), ids=lambda net: net.name)
def test_fast_kernels(net):
    torch.manual_seed(0)
    model = net.build(**net.tiny).eval()
    x = torch.randn(1, net.channels, *net.tiny_size)
    options = {"qconfig": "onnxruntime_qat", "march": "onnxruntime", "quantize_output": True}
    program = lower(settle(model, x, **options), (x,))
    for name, layer in layer_exactness(program, [program.quantize(x.numpy())]).items():
        assert layer.max_lsb <= 1, name


@pytest.mark.parametrize("net", sample(nets(), 5), ids=lambda net: net.name)
def test_integers(net, tmp_path):
    torch.manual_seed(0)
    model = net.build(**net.tiny).eval()
    x = torch.randn(1, net.channels, *net.tiny_size)
    prepared = settle(model, x, quantize_output=True)
    deployment = deploy(prepared, (x,))
    program = lower(prepared, (x,), deployment=deployment)
    ints = program.quantize(x.numpy())
    to_onnx(program, tmp_path / "converted.onnx")
    runner = OnnxRunner.load(tmp_path / "converted.onnx", threads=1)
    ways = zip(interpret(program, *ints), program.run(*ints), runner.run(*ints), strict=True)
    for referee, executor, onnx in ways:
        assert np.array_equal(referee, executor)
        assert np.array_equal(referee, onnx)
    outputs = []
    for march in (None, "onnxruntime"):
        form = dataclasses.replace(prepared, march=march)
        export_qat_onnx(form, tmp_path / "qat.onnx", (x,), deployment=deployment)
        check_onnx(tmp_path / "qat.onnx")
        outputs.append(run(tmp_path / "qat.onnx", x, optimized=False))
    for int8, uint8 in zip(*outputs, strict=True):
        assert np.array_equal(int8, uint8)
