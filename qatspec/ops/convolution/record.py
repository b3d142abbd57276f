"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "convolution",
        "conv",
        "convolutions, plain and transposed",
        {
            "conv2d": "nn:Conv2d f:conv2d torch.conv2d",
            "conv1d": "nn:Conv1d f:conv1d torch.conv1d",
            "conv3d": "nn:Conv3d f:conv3d torch.conv3d",
            "conv_transpose1d": "nn:ConvTranspose1d f:conv_transpose1d torch.conv_transpose1d",
            "conv_transpose2d": "nn:ConvTranspose2d f:conv_transpose2d torch.conv_transpose2d",
            "conv_transpose3d": "nn:ConvTranspose3d f:conv_transpose3d torch.conv_transpose3d",
        },
        OpTrait.WEIGHT,
        OpTrait.IMAGES,
        OpTrait.ENDS_KERNEL,
    ),
    handler(
        "convolution",
        "linear",
        "fully connected layers",
        {"linear": "nn:Linear f:linear"},
        OpTrait.WEIGHT,
        OpTrait.ENDS_KERNEL,
    ),
)
