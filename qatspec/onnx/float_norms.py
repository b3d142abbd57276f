"""Float ONNX forms of norms, for the Q/DQ file: by running statistics or by the input's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

_STATISTICS, _AFFINE = ("running_mean", "running_var"), ("weight", "bias")


def batch_norm(q: QdqWriter, node: fx.Node) -> str:
    """By the running statistics, which are the module's own or come behind x."""
    norm: Any = q.context.module(node)
    names = (*_STATISTICS, *_AFFINE)
    if norm is None:  # in a module that is not entered by name or by class
        told = _told(q, node, node.target is torch.batch_norm)
        of_batch = q.context.argument(node, 5, "training", False)
        return _by_running(
            q, node, [None if of_batch else told[name] for name in names], told["eps"]
        )
    given: list[Any] = [getattr(norm, name, None) for name in names]
    if len(node.args) > 1:
        given = [*node.args[1:], None, None][:4]
    return _by_running(q, node, given, norm.eps)


def layer_norm(q: QdqWriter, node: fx.Node) -> str:
    """LayerNormalization over the last dims."""
    setting = q.context.setting
    shape = setting(node, 1, "normalized_shape")
    shape = tuple(shape) if isinstance(shape, (tuple, list, torch.Size)) else (shape,)
    weight, bias = (_array(q, node, setting(node, i, name)) for i, name in enumerate(_AFFINE, 2))
    names = [_const(q, node, "weight", np.ones(shape) if weight is None else weight)]
    if bias is not None:
        names.append(_const(q, node, "bias", bias))
    x, eps = q.operand(node.args[0]), float(setting(node, 4, "eps", 1e-5))
    return q.w.node("LayerNormalization", [x, *names], node.name, axis=-len(shape), epsilon=eps)


def group_norm(q: QdqWriter, node: fx.Node) -> str:
    """InstanceNormalization of (N, groups, all the rest), then weight and bias a channel:
    GroupNormalization is there from opset 18 on, with a weight a group, and a channel from 21."""
    setting, sizes = q.context.setting, q.sizes(node)
    groups = int(setting(node, 1, "num_groups"))
    weight, bias = (_array(q, node, setting(node, i, name)) for i, name in enumerate(_AFFINE, 2))
    flat = q.w.const("grouped", [0, groups, -1], np.int64)
    x = q.w.node("Reshape", [q.operand(node.args[0]), flat], f"{node.name}.grouped")
    eps = float(setting(node, 4, "eps", 1e-5))
    x = _by_own(q, x, np.ones(groups), np.zeros(groups), eps, f"{node.name}.normed")
    affine = [("Mul", "weight", weight), ("Add", "bias", bias)]
    steps = [(op, name, array) for op, name, array in affine if array is not None]
    name = f"{node.name}.whole" if steps else node.name
    x = q.reshaped(node, x, sizes[:1], sizes, name)
    for i, (op, which, array) in enumerate(steps, 1):
        spread = _const(q, node, which, array.reshape(-1, *[1] * (len(sizes) - 2)))
        name = node.name if i == len(steps) else f"{node.name}.scaled"
        x = q.w.node(op, [x, spread], name)
    return x


def instance_norm(q: QdqWriter, node: fx.Node) -> str:
    """By the input's own statistics, or by running ones that the module keeps."""
    norm: Any = q.context.module(node)
    if norm is not None:
        if len(q.sizes(node)) == norm._get_no_batch_dim():
            q.fail(node, "an instance_norm without a batch")
        given = {name: getattr(norm, name) for name in (*_STATISTICS, *_AFFINE)}
        own, eps = given["running_mean"] is None, norm.eps
    else:
        given = _told(q, node, node.target is torch.instance_norm)
        own, eps = q.context.argument(node, 5, "use_input_stats", True), given["eps"]
    if not own:
        return _by_running(q, node, [given[name] for name in (*_STATISTICS, *_AFFINE)], eps)
    channels: Any = q.sizes(node)[1]
    weight, bias = (_array(q, node, given[name]) for name in _AFFINE)
    weight = np.ones(channels) if weight is None else weight
    bias = np.zeros(channels) if bias is None else bias
    return _by_own(q, q.operand(node.args[0]), weight, bias, float(eps), node.name)


def _told(q: QdqWriter, node: fx.Node, torchs: bool) -> dict[str, Any]:
    """What a functional norm is told behind x. torchs: it is that of `torch`, whose order is
    another than that of torch.nn.functional."""
    order = _AFFINE + _STATISTICS if torchs else _STATISTICS + _AFFINE
    argument = q.context.argument
    told = {name: argument(node, i, name) for i, name in enumerate(order, 1)}
    return {**told, "eps": argument(node, 7, "eps", 1e-5)}


def _by_own(
    q: QdqWriter, x: str, weight: np.ndarray, bias: np.ndarray, eps: float, name: str
) -> str:
    names = [
        q.w.const(f"{name}.{k}", a, np.float32) for k, a in (("weight", weight), ("bias", bias))
    ]
    return q.w.node("InstanceNormalization", [x, *names], name, epsilon=eps)


def _by_running(q: QdqWriter, node: fx.Node, given: list[Any], eps: float) -> str:
    """given: mean, variance, weight, bias."""
    mean, variance, weight, bias = (_array(q, node, value) for value in given)
    if mean is None or variance is None:
        q.fail(node, "a norm without running statistics")
    arrays = {
        "weight": np.ones(mean.size) if weight is None else weight,
        "bias": np.zeros(mean.size) if bias is None else bias,
        "running_mean": mean,
        "running_var": variance,
    }
    names = [_const(q, node, name, array) for name, array in arrays.items()]
    x = q.operand(node.args[0])
    return q.w.node("BatchNormalization", [x, *names], node.name, epsilon=float(eps))


def _array(q: QdqWriter, node: fx.Node, given: Any) -> np.ndarray | None:
    """A parameter of a module, or the constant that a functional call is given."""
    if isinstance(given, fx.Node):
        if not q.batch.is_constant(given):
            q.fail(node, "a norm by weights that are computed from the input")
        given = q.tensor(given)
    return None if given is None else given.detach().numpy()


def _const(q: QdqWriter, node: fx.Node, name: str, array: np.ndarray) -> str:
    path = node.target if node.op == "call_module" else node.name
    return q.w.const(f"{path}.{name}", array, np.float32)
