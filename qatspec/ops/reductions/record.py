"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "reductions",
        "total",
        "means and sums over whole dims",
        {"mean": "torch.mean t:mean", "sum": "torch.sum t:sum"},
        OpTrait.AVERAGES,
        annotate="annotate_total",
        lower="lower_total",
        to_onnx="write_total",
    ),
    handler(
        "reductions",
        "max",
        "maxima over whole dims",
        {"max": "torch.max torch.amax t:max t:amax"},
        OpTrait.MAXIMUM,
        annotate="annotate_max",
        lower="lower_max",
        to_onnx="write_max",
    ),
    handler(
        "reductions",
        "argmax",
        "indices of maxima",
        {"argmax": "torch.argmax t:argmax"},
        annotate="annotate_max",
        lower="lower_argmax",
        to_onnx="write_argmax",
    ),
    handler(
        "reductions",
        "length",
        "Euclidean lengths along whole dims",
        {"vector_norm": "torch.linalg.vector_norm"},
        annotate="annotate_length",
        lower="lower_length",
        to_onnx="write_length",
    ),
)
