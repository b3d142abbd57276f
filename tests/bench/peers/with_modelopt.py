"""NVIDIA ModelOpt: its int8 defaults."""

from __future__ import annotations

import modelopt.torch.quantization as mtq
import torch
from environments import given

model, x, out = given()
quantized = mtq.quantize(model, mtq.INT8_DEFAULT_CFG, lambda net: net(x))
with torch.no_grad():
    torch.onnx.export(quantized, (x,), out, opset_version=17, dynamo=False)
