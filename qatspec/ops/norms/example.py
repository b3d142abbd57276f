"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from qatspec.ops.examples import SHIFT, SLOPE, Reals, module, with_parameters
from qatspec.types import Example


class _Functional(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = _norm(nn.BatchNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        affine = (norm.weight, norm.bias)
        return functional.batch_norm(x, norm.running_mean, norm.running_var, *affine, eps=0.0)


class _FunctionalInstance(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = _instance(nn.InstanceNorm2d)

    def forward(self, x: Tensor) -> Tensor:
        norm: Any = self.norm
        return functional.instance_norm(x, weight=norm.weight, bias=norm.bias)


def _norm(kind: Any) -> nn.Module:
    """A batch norm with statistics and parameters that differ by channel."""
    return with_parameters(
        kind(4, eps=0.0), weight=SLOPE, bias=SHIFT, running_mean=SHIFT[::-1].copy(),
        running_var=SLOPE**2,
    )  # fmt: skip


def _reference(x: Reals) -> Reals:
    """gamma (x - mean) / deviation + beta."""
    dims = (1, 4, *[1] * (x.ndim - 2))
    mean, deviation = SHIFT[::-1].reshape(dims), abs(SLOPE).reshape(dims)
    return np.asarray(SLOPE.reshape(dims) * (x - mean) / deviation + SHIFT.reshape(dims))


def _instance(kind: Any) -> nn.Module:
    return with_parameters(kind(4, affine=True), weight=SLOPE, bias=SHIFT)


def _standardized(x: Reals, axes: tuple[int, ...]) -> Reals:
    centred = x - x.mean(axes, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).mean(axes, keepdims=True) + 1e-5))


def _layer_reference(x: Reals) -> Reals:
    """Rows of mean 0 and variance 1, times gamma, plus beta."""
    return np.asarray(_standardized(x, (3,)) * np.tile(SLOPE, 2) + np.tile(SHIFT, 2))


def _affine(x: Reals) -> Reals:
    dims = (1, 4, *[1] * (x.ndim - 2))
    return np.asarray(SLOPE.reshape(dims) * x + SHIFT.reshape(dims))


def _group_reference(x: Reals) -> Reals:
    """Groups of mean 0 and variance 1, times gamma, plus beta."""
    return _affine(_standardized(x.reshape(-1, 2, 2, 8, 8), (2, 3, 4)).reshape(x.shape))


def _instance_reference(x: Reals) -> Reals:
    """Channels of mean 0 and variance 1, times gamma, plus beta."""
    return _affine(_standardized(x, tuple(range(2, x.ndim))))


def examples() -> tuple[Example, ...]:
    line, cube = (2, 4, 16), (2, 4, 3, 4, 5)
    layer = with_parameters(nn.LayerNorm(8), weight=np.tile(SLOPE, 2), bias=np.tile(SHIFT, 2))
    group = with_parameters(nn.GroupNorm(2, 4), weight=SLOPE, bias=SHIFT)
    return (
        module("batch_norm2d", lambda: _norm(nn.BatchNorm2d), _reference),
        module("batch_norm1d", lambda: _norm(nn.BatchNorm1d), _reference, line),
        module("batch_norm3d", lambda: _norm(nn.BatchNorm3d), _reference, cube),
        module("batch_norm", _Functional, _reference),
        module("layer_norm", lambda: layer, _layer_reference),
        module("group_norm", lambda: group, _group_reference),
        module("instance_norm2d", lambda: _instance(nn.InstanceNorm2d), _instance_reference),
        module("instance_norm1d", lambda: _instance(nn.InstanceNorm1d), _instance_reference, line),
        module("instance_norm3d", lambda: _instance(nn.InstanceNorm3d), _instance_reference, cube),
        module("instance_norm", _FunctionalInstance, _instance_reference),
    )
