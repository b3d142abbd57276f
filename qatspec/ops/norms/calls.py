"""The arguments of the ops. Statistics and parameters are (C,), or None where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import fx

from qatspec.graph.context import GraphContext

#: In the order in which torch passes them to a function.
_STATISTICS, _AFFINE = ("running_mean", "running_var"), ("weight", "bias")


@dataclass(frozen=True, slots=True)
class RunningNorm:
    """(x - mean) / sqrt(variance + eps) * weight + bias, by running statistics."""

    x: Any
    mean: Any
    variance: Any
    weight: Any
    bias: Any
    eps: float


@dataclass(frozen=True, slots=True)
class BatchNorm:
    x: Any
    running_mean: Any = None
    running_var: Any = None
    weight: Any = None
    bias: Any = None
    training: bool = False
    momentum: float = 0.1
    eps: float = 1e-5

    ORDERS: ClassVar = {
        "torch.batch_norm": ("x", *_AFFINE, *_STATISTICS, "training", "momentum", "eps")
    }


@dataclass(frozen=True, slots=True)
class LayerNorm:
    x: Any
    normalized_shape: Any = ()
    weight: Any = None
    bias: Any = None
    eps: float = 1e-5

    @property
    def sizes(self) -> tuple[int, ...]:
        """Of the dims that are normalized."""
        shape = self.normalized_shape
        return (shape,) if isinstance(shape, int) else tuple(shape)


@dataclass(frozen=True, slots=True)
class GroupNorm:
    x: Any
    num_groups: int = 1
    weight: Any = None
    bias: Any = None
    eps: float = 1e-5


@dataclass(frozen=True, slots=True)
class InstanceNorm:
    """use_input_stats: a module has no such attribute; `instance_norm_of` answers for both."""

    x: Any
    running_mean: Any = None
    running_var: Any = None
    weight: Any = None
    bias: Any = None
    use_input_stats: bool = True
    momentum: float | None = 0.1
    eps: float = 1e-5

    ORDERS: ClassVar = {
        "torch.instance_norm": (
            "x", *_AFFINE, *_STATISTICS, "use_input_stats", "momentum", "eps",
        )
    }  # fmt: skip


def batch_norm_of(node: fx.Node, context: GraphContext) -> RunningNorm:
    """A batch norm in evaluation: statistics and parameters are the module's own, or come behind
    x. Without statistics where it takes those of the batch."""
    module: Any = context.module(node)
    if module is None:  # in a module that is not entered by name or by class
        call = context.call(node, BatchNorm)
        mean, variance = (None, None) if call.training else (call.running_mean, call.running_var)
        return RunningNorm(call.x, mean, variance, call.weight, call.bias, call.eps)
    values: list[Any] = [getattr(module, name, None) for name in (*_STATISTICS, *_AFFINE)]
    if len(node.args) > 1:
        values = [*node.args[1:], None, None][:4]
    mean, variance, weight, bias = values
    return RunningNorm(node.args[0], mean, variance, weight, bias, module.eps)


def instance_norm_of(node: fx.Node, context: GraphContext) -> InstanceNorm | RunningNorm:
    """By running statistics where it keeps them, else by the input's own."""
    call = context.call(node, InstanceNorm)
    by_input = call.use_input_stats if context.module(node) is None else call.running_mean is None
    if by_input:
        return call
    statistics = (call.running_mean, call.running_var)
    return RunningNorm(call.x, *statistics, call.weight, call.bias, call.eps)
