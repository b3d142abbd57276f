"""The time of a TFLite file, in LiteRT, beside that of float32."""

from __future__ import annotations

import onnx
import pytest
import torch
from torch import nn

from qatspec.api import compile as compile_program, lower
from qatspec.export import export_qat_onnx
from qatspec.export.float32 import without_quantization
from qatspec.registry import registry


def test_perf_has_float32_beside(settled, tmp_path):
    """LiteRT runs no ONNX: float32's time is onnxruntime's, and perf.json says so."""
    pytest.importorskip("ai_edge_litert", reason="ai-edge-litert is not installed")
    x = torch.randn(2, 3, 12, 12)
    prepared = settled(nn.Conv2d(3, 8, 3), x, march="litert", quantize_output=True)
    program = lower(prepared, (x,))
    export_qat_onnx(prepared, tmp_path / "qat.onnx", (x,))
    float32 = without_quantization(onnx.load(tmp_path / "qat.onnx")).SerializeToString()
    artifact, march = compile_program(program, "litert"), registry().march("litert")
    ints = program.quantize(x.numpy())
    perf = march.measure(program, artifact, [ints], float32)["perf"]
    assert perf["float32 CPU time / CPU time"] > 0 and perf["latency (ms)"] > 0
    assert perf["float32 ran in"].startswith("onnxruntime")
    assert "float32 ran in" not in march.measure(program, artifact, [ints], None)["perf"]
