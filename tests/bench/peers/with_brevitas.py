"""Brevitas: its graph quantization for plain layers, exported as Q, clip and DQ."""

from __future__ import annotations

import torch
from brevitas.export import export_onnx_qcdq
from brevitas.graph.calibrate import calibration_mode
from brevitas.graph.quantize import preprocess_for_quantize, quantize
from environments import given

model, x, out = given()
quantized = quantize(preprocess_for_quantize(model, trace_model=True)).eval()
with torch.no_grad(), calibration_mode(quantized):
    quantized(x)
export_onnx_qcdq(quantized, args=x, export_path=out, opset_version=17, dynamo=False)
