"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler

HANDLERS = (
    handler(
        "softmax",
        "softmax",
        "probabilities that sum to 1",
        {"softmax": "nn:Softmax f:softmax torch.softmax t:softmax"},
        lower="lower_softmax",
    ),
    handler(
        "softmax",
        "log_softmax",
        "their logarithms",
        {"log_softmax": "nn:LogSoftmax f:log_softmax torch.log_softmax t:log_softmax"},
        lower="lower_log_softmax",
    ),
)
