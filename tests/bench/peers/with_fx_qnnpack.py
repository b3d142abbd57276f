"""torch.ao's FX mode with its qnnpack QAT defaults: uint8 activations, int8 weights."""

from __future__ import annotations

import torch
from environments import given
from torch.ao.quantization import get_default_qat_qconfig_mapping
from torch.ao.quantization.quantize_fx import convert_fx, prepare_qat_fx

model, x, out = given()
torch.backends.quantized.engine = "qnnpack"
prepared = prepare_qat_fx(model.train(), get_default_qat_qconfig_mapping("qnnpack"), (x,)).eval()
prepared.apply(torch.ao.quantization.disable_fake_quant)
with torch.no_grad():
    prepared(x)
prepared.apply(torch.ao.quantization.enable_fake_quant)
prepared.apply(torch.ao.quantization.disable_observer)
torch.onnx.export(convert_fx(prepared), (x,), out, opset_version=17, dynamo=False)
