"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "norms",
        "batch_norm",
        "batch norms that were not folded",
        {
            "batch_norm2d": "nn:BatchNorm2d nn:SyncBatchNorm",
            "batch_norm1d": "nn:BatchNorm1d",
            "batch_norm3d": "nn:BatchNorm3d",
            "batch_norm": "f:batch_norm torch.batch_norm",
        },
        OpTrait.BATCH_NORM,
        OpTrait.IMAGES,
        lower="lower_batch_norm",
        to_onnx="write_batch_norm",
    ),
    handler(
        "norms",
        "layer_norm",
        "norm over an image's last dims",
        {"layer_norm": "nn:LayerNorm f:layer_norm torch.layer_norm"},
        lower="lower_layer_norm",
        to_onnx="write_layer_norm",
    ),
    handler(
        "norms",
        "group_norm",
        "norm over groups of channels",
        {"group_norm": "nn:GroupNorm f:group_norm torch.group_norm"},
        lower="lower_group_norm",
        to_onnx="write_group_norm",
    ),
    handler(
        "norms",
        "instance_norm",
        "norm over each channel's pixels",
        {
            "instance_norm2d": "nn:InstanceNorm2d",
            "instance_norm1d": "nn:InstanceNorm1d",
            "instance_norm3d": "nn:InstanceNorm3d",
            "instance_norm": "f:instance_norm torch.instance_norm",
        },
        lower="lower_instance_norm",
        to_onnx="write_instance_norm",
    ),
)
