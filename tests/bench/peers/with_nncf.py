"""NNCF: its defaults for a CPU, stripped to Q and DQ."""

from __future__ import annotations

import nncf
import torch
from environments import given

model, x, out = given()
quantized = nncf.quantize(model, nncf.Dataset([x]), subset_size=1)
bare = nncf.strip(quantized, example_input=x)
with torch.no_grad():
    torch.onnx.export(bare, (x,), out, opset_version=17, dynamo=False)
