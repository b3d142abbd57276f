"""Functional calls that read weights or statistics become calls of modules that take them as
operands.

F.conv2d(x, self.w) is then like nn.Conv2d: the call of a module that can hold the fake-quant of the
weight. Parameters stay at the paths where the model holds them, and tied parameters stay tied.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.ops.norms.calls import BatchNorm
from qatspec.quant.functional import FunctionalConv, FunctionalNorm
from qatspec.quant.geometry import Geometry
from qatspec.types import OpTrait

_MODULES: dict[str, type[nn.Module]] = {
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}


@dataclass(frozen=True, slots=True)
class _Linear:
    x: Any
    weight: Any
    bias: Any = None


@dataclass(frozen=True, slots=True)
class _Conv(_Linear):
    stride: Any = None
    padding: Any = None
    dilation: Any = None
    groups: int | None = None


@dataclass(frozen=True, slots=True)
class _Transposed(_Linear):
    stride: Any = None
    padding: Any = None
    output_padding: Any = None
    groups: int | None = None
    dilation: Any = None


def replace_call(
    root: nn.Module, graph: fx.Graph, node: fx.Node, new: nn.Module, *args: Any, **kwargs: Any
) -> fx.Node:
    """Register `new` in `root`, and replace `node` by a call of it with these arguments. Returns
    the new node, which has the old one's name."""
    return _call(graph, node, register(root, f"{node.name}_module", new), args, kwargs)


def register(root: nn.Module, name: str, module: nn.Module) -> str:
    """Add a child under `name`, or under the next free name like it."""
    free, number = name, 0
    while hasattr(root, free):
        number += 1
        free = f"{name}_{number}"
    root.add_module(free, module)
    return free


def functional_to_module(root: nn.Module, graph: fx.Graph) -> None:
    """Replace the functional convs, linears and batch norms of `graph` by modules of `root`.

    Calls that read the same weight with the same settings share a module. A conv whose weight
    depends on the input stays as it is.
    """
    context = GraphContext(root, graph)
    shared: dict[tuple[Any, Geometry], str] = {}
    for node in list(graph.nodes):
        if node.op != "call_function":
            continue
        op = context.op(node)
        if context.has_trait(node, OpTrait.WEIGHT) and context.is_constant(node.args[1]):
            geometry = _geometry(context, node, str(op))
            key = (_weight(node.args[1]), geometry)
            if key not in shared:
                shared[key] = register(root, f"{node.name}_module", FunctionalConv(geometry))
            bias = context.call(node, _Linear).bias
            _call(graph, node, shared[key], (*node.args[:2], bias))
        elif op == "batch_norm" and not context.call(node, BatchNorm).training:
            batch_norm_module(root, graph, node, fixed=True)


def batch_norm_module(root: nn.Module, graph: fx.Graph, node: fx.Node, *, fixed: bool) -> fx.Node:
    """Replace a call of F.batch_norm by one of a module; `fixed`: see FunctionalNorm. Returns the
    new node."""
    context = GraphContext(root, graph)
    call = context.call(node, BatchNorm)
    operands = (call.running_mean, call.running_var, call.weight, call.bias)
    norm = FunctionalNorm(call.momentum, call.eps, fixed)
    return replace_call(root, graph, node, norm, node.args[0], *operands)


def _call(
    graph: fx.Graph,
    node: fx.Node,
    path: str,
    args: tuple[Any, ...],
    kwargs: dict[str, Any] | None = None,
) -> fx.Node:
    with graph.inserting_after(node):
        new = graph.call_module(path, args, kwargs)
    new.meta.update(node.meta)
    node.replace_all_uses_with(new, propagate_meta=False)
    graph.erase_node(node)
    new.name = node.name
    return new


def _weight(node: Any) -> Any:
    """What identifies a weight: the parameter's path, or the node that computes it."""
    return node.target if node.op == "get_attr" else node


def _geometry(context: GraphContext, node: fx.Node, op: str) -> Geometry:
    """The geometry of the torch module that computes the same."""
    if op == "linear":
        return Geometry(op)
    transposed = op.startswith("conv_transpose")
    kind: type[_Linear] = _Transposed if transposed else _Conv
    call = context.call(node, kind)
    names = [f.name for f in fields(kind)[3:]]
    settings = {name: v for name in names if (v := getattr(call, name)) is not None}
    groups = settings.get("groups", 1)
    first, second, *kernel = context.shape(node.args[1])
    channels = (first, second * groups) if transposed else (second * groups, first)
    return Geometry.of(_MODULES[op](*channels, kernel, **settings, device="meta"))
