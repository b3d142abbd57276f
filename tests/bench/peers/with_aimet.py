"""AIMET: batch norms folded, its quantization simulation's defaults, exported as Q and DQ."""

from __future__ import annotations

import sys
from unittest import mock

import torch

# its data loaders alone need it, and pip's build for CUDA does not load beside torch for the CPU
sys.modules.update(dict.fromkeys(("torchvision", "torchvision.ops"), mock.MagicMock()))

import aimet_torch
from aimet_torch.batch_norm_fold import fold_all_batch_norms
from aimet_torch.quantsim import QuantizationSimModel
from environments import given

model, x, out = given()
fold_all_batch_norms(model, tuple(x.shape), x)
simulated = QuantizationSimModel(model, x, default_output_bw=8, default_param_bw=8)
with torch.no_grad():
    simulated.compute_encodings(lambda net: net(x))
    aimet_torch.onnx.export(simulated.model, x, out, opset_version=17, dynamo=False)
