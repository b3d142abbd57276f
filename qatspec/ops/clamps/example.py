"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from qatspec.ops.examples import function, module
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    return (
        module("relu", nn.ReLU, lambda x: np.maximum(x, 0)),
        module("relu6", nn.ReLU6, lambda x: np.clip(x, 0, 6)),
        module("hardtanh", lambda: nn.Hardtanh(-0.5, 0.75), lambda x: np.clip(x, -0.5, 0.75)),
        function("clamp", lambda x: torch.clamp(x, -0.25), lambda x: np.maximum(x, -0.25)),
    )
