"""Norms in float ONNX: by running statistics or by the input's own."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from qatspec.ops.norms.calls import (
    GroupNorm,
    LayerNorm,
    RunningNorm,
    batch_norm_of,
    instance_norm_of,
)
from qatspec.qdq import QdqWriter


def write_batch_norm(node: fx.Node, q: QdqWriter) -> str:
    """BatchNormalization."""
    return _by_running(node, q, batch_norm_of(node, q.context))


def write_layer_norm(node: fx.Node, q: QdqWriter) -> str:
    """LayerNormalization over the last dims."""
    call = q.context.call(node, LayerNorm)
    weight, bias = q.array(node, call.weight), q.array(node, call.bias)
    names = [q.parameter(node, "weight", np.ones(call.sizes) if weight is None else weight)]
    if bias is not None:
        names.append(q.parameter(node, "bias", bias))
    x, axis = q.operand(call.x), -len(call.sizes)
    return q.graph.node(
        "LayerNormalization", [x, *names], node.name, axis=axis, epsilon=float(call.eps)
    )


def write_group_norm(node: fx.Node, q: QdqWriter) -> str:
    """InstanceNormalization of (N, groups, all the rest), then weight and bias a channel:
    GroupNormalization is there from opset 18 on, with a weight a group, and a channel from 21."""
    call, sizes = q.context.call(node, GroupNorm), q.sizes(node)
    groups = int(call.num_groups)
    weight, bias = q.array(node, call.weight), q.array(node, call.bias)
    flat = q.graph.const("grouped", [0, groups, -1], np.int64)
    x = q.graph.node("Reshape", [q.operand(call.x), flat], f"{node.name}.grouped")
    x = _by_own(q, x, np.ones(groups), np.zeros(groups), call.eps, f"{node.name}.normed")
    affine = [("Mul", "weight", weight), ("Add", "bias", bias)]
    steps = [(op, name, array) for op, name, array in affine if array is not None]
    name = f"{node.name}.whole" if steps else node.name
    x = q.reshaped(node, x, sizes[:1], sizes, name)
    for i, (op, which, array) in enumerate(steps, 1):
        spread = q.parameter(node, which, array.reshape(-1, *[1] * (len(sizes) - 2)))
        name = node.name if i == len(steps) else f"{node.name}.scaled"
        x = q.graph.node(op, [x, spread], name)
    return x


def write_instance_norm(node: fx.Node, q: QdqWriter) -> str:
    """By the input's own statistics, or by running ones that the module keeps."""
    norm: Any = q.context.module(node)
    if norm is not None and len(q.sizes(node)) == norm._get_no_batch_dim():
        q.fail(node, "an instance_norm without a batch")
    call = instance_norm_of(node, q.context)
    if isinstance(call, RunningNorm):
        return _by_running(node, q, call)
    channels: Any = q.sizes(node)[1]
    weight, bias = q.array(node, call.weight), q.array(node, call.bias)
    weight = np.ones(channels) if weight is None else weight
    bias = np.zeros(channels) if bias is None else bias
    return _by_own(q, q.operand(call.x), weight, bias, call.eps, node.name)


def _by_own(
    q: QdqWriter, x: str, weight: np.ndarray, bias: np.ndarray, eps: float, name: str
) -> str:
    names = [
        q.graph.const(f"{name}.{k}", a, np.float32) for k, a in (("weight", weight), ("bias", bias))
    ]
    return q.graph.node("InstanceNormalization", [x, *names], name, epsilon=float(eps))


def _by_running(node: fx.Node, q: QdqWriter, norm: RunningNorm) -> str:
    values = (norm.mean, norm.variance, norm.weight, norm.bias)
    mean, variance, weight, bias = (q.array(node, value) for value in values)
    if mean is None or variance is None:
        q.fail(node, "a norm without running statistics")
    arrays = {
        "weight": np.ones(mean.size) if weight is None else weight,
        "bias": np.zeros(mean.size) if bias is None else bias,
        "running_mean": mean,
        "running_var": variance,
    }
    names = [q.parameter(node, name, array) for name, array in arrays.items()]
    x = q.operand(norm.x)
    return q.graph.node("BatchNormalization", [x, *names], node.name, epsilon=float(norm.eps))
