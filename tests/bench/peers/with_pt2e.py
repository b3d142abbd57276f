"""torchao's export mode (pt2e) with its quantizer for x86: uint8 activations, int8 weights."""

from __future__ import annotations

import torch
from environments import given
from torchao.quantization.pt2e import move_exported_model_to_eval
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

model, x, out = given()
quantizer = x86.X86InductorQuantizer().set_global(
    x86.get_default_x86_inductor_quantization_config()
)
prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), quantizer)
with torch.no_grad():
    prepared(x)
converted = convert_pt2e(prepared)
move_exported_model_to_eval(converted)
torch.onnx.export(converted, (x,), out, dynamo=True, verbose=False)
