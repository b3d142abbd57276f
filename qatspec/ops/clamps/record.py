"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "clamps",
        "relu",
        "rectifier",
        {"relu": "nn:ReLU f:relu f:relu_ torch.relu torch.relu_ t:relu t:relu_"},
        OpTrait.CLAMP,
        annotate="annotate_relu",
        to_onnx="write_relu",
    ),
    handler(
        "clamps",
        "clamp",
        "bounded rectifiers",
        {
            "hardtanh": "nn:Hardtanh f:hardtanh f:hardtanh_",
            "relu6": "nn:ReLU6 f:relu6",
            "clamp": "torch.clamp torch.clip torch.clamp_ t:clamp t:clip t:clamp_ t:clip_",
        },
        OpTrait.CLAMP,
        annotate="annotate_clamp",
    ),
)
