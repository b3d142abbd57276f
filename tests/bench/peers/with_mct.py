"""Sony's Model Compression Toolkit: its post-training defaults."""

from __future__ import annotations

import torch
from environments import given


def main() -> None:
    # pip's torchvision, for CUDA, loads beside torch for CPUs once these exist
    ops = torch.library.Library("torchvision", "DEF")
    ops.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    ops.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import model_compression_toolkit as mct

    model, x, out = given()
    quantized, _ = mct.ptq.pytorch_post_training_quantization(model, lambda: iter([[x]]))
    with torch.no_grad():
        torch.onnx.export(quantized.cpu().eval(), (x,), out, opset_version=17, dynamo=False)


if __name__ == "__main__":
    main()
