"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "pools",
        "max_pool",
        "maxima of sliding windows",
        {
            "max_pool2d": "nn:MaxPool2d f:max_pool2d torch.max_pool2d",
            "max_pool1d": "nn:MaxPool1d f:max_pool1d torch.max_pool1d",
            "max_pool3d": "nn:MaxPool3d f:max_pool3d torch.max_pool3d",
        },
        OpTrait.IMAGES,
        OpTrait.MAXIMUM,
        OpTrait.MOVES,
        annotate="annotate_max",
        lower="lower_max_pool",
        to_onnx="write_max_pool",
    ),
    handler(
        "pools",
        "adaptive_max_pool",
        "maxima of adaptive windows",
        {
            "adaptive_max_pool2d": "nn:AdaptiveMaxPool2d f:adaptive_max_pool2d",
            "adaptive_max_pool1d": "nn:AdaptiveMaxPool1d f:adaptive_max_pool1d",
            "adaptive_max_pool3d": "nn:AdaptiveMaxPool3d f:adaptive_max_pool3d",
        },
        OpTrait.IMAGES,
        OpTrait.MAXIMUM,
        annotate="annotate_max",
        lower="lower_adaptive_max",
        to_onnx="write_adaptive",
    ),
    handler(
        "pools",
        "average",
        "averages of sliding windows",
        {
            "avg_pool2d": "nn:AvgPool2d f:avg_pool2d",
            "avg_pool1d": "nn:AvgPool1d f:avg_pool1d torch.avg_pool1d",
            "avg_pool3d": "nn:AvgPool3d f:avg_pool3d",
        },
        OpTrait.IMAGES,
        OpTrait.AVERAGES,
        annotate="annotate_average",
        lower="lower_average_pool",
        to_onnx="write_average_pool",
    ),
    handler(
        "pools",
        "adaptive_average",
        "averages of adaptive windows",
        {
            "adaptive_avg_pool2d": "nn:AdaptiveAvgPool2d f:adaptive_avg_pool2d",
            "adaptive_avg_pool1d": "nn:AdaptiveAvgPool1d f:adaptive_avg_pool1d "
            "torch.adaptive_avg_pool1d",
            "adaptive_avg_pool3d": "nn:AdaptiveAvgPool3d f:adaptive_avg_pool3d",
        },
        OpTrait.IMAGES,
        OpTrait.AVERAGES,
        annotate="annotate_average",
        lower="lower_adaptive_average",
        to_onnx="write_adaptive",
    ),
)
