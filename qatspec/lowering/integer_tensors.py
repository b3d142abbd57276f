"""Tensors of integers in the model, such as indices and what is counted from them. No fake-quant is
on them: their integers are the numbers themselves."""

from __future__ import annotations

from typing import Any

import torch


def is_integer_tensor(value: Any) -> bool:
    """Return whether an example value is a tensor of an integer dtype."""
    if not isinstance(value, torch.Tensor) or value.dtype == torch.bool:
        return False
    return not (value.is_floating_point() or value.is_complex())
