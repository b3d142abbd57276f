"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
from torch import nn

from qatspec.ops.examples import Reals, module
from qatspec.types import Example


def _softmax(x: Reals) -> Reals:
    return np.asarray(np.exp(x) / np.exp(x).sum(1, keepdims=True))


def examples() -> tuple[Example, ...]:
    """Over the channels."""
    return (
        module("softmax", lambda: nn.Softmax(1), _softmax),
        module("log_softmax", lambda: nn.LogSoftmax(1), lambda x: np.log(_softmax(x))),
    )
