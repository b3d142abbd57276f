"""AIMET: batch norms folded, its quantization simulation's defaults, exported as Q and DQ."""

from __future__ import annotations

import sys
from unittest import mock

import torch
from environments import given


def main() -> None:
    # its data loaders alone need it; the build that pip takes does not load beside torch for CPUs
    sys.modules.update(dict.fromkeys(("torchvision", "torchvision.ops"), mock.MagicMock()))
    from aimet_torch import onnx
    from aimet_torch.batch_norm_fold import fold_all_batch_norms
    from aimet_torch.quantsim import QuantizationSimModel

    model, x, out = given()
    fold_all_batch_norms(model, tuple(x.shape), x)
    simulated = QuantizationSimModel(model, x, default_output_bw=8, default_param_bw=8)
    with torch.no_grad():
        simulated.compute_encodings(lambda net: net(x))
        onnx.export(simulated.model, x, out, opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
