"""Functional calls that read weights or statistics become calls of modules that take them as
operands.

F.conv2d(x, self.w) is then like nn.Conv2d: the call of a module that can hold the fake-quant of the
weight. Parameters stay at the paths where the model holds them, and tied parameters stay tied.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.ops import ANCHOR_OPS
from qatspec.quant.functional import FunctionalConv, FunctionalNorm
from qatspec.quant.geometry import Geometry

_MODULES: dict[str, type[nn.Module]] = {
    "conv1d": nn.Conv1d,
    "conv2d": nn.Conv2d,
    "conv3d": nn.Conv3d,
    "conv_transpose1d": nn.ConvTranspose1d,
    "conv_transpose2d": nn.ConvTranspose2d,
    "conv_transpose3d": nn.ConvTranspose3d,
}
_CONV = ("bias", "stride", "padding", "dilation", "groups")
_TRANSPOSED = ("bias", "stride", "padding", "output_padding", "groups", "dilation")


def replace_call(
    root: nn.Module, graph: fx.Graph, node: fx.Node, new: nn.Module, *args: Any
) -> fx.Node:
    """Register `new` in `root`, and replace `node` by a call of it with `args`. Returns the new
    node, which has the old one's name."""
    return _call(graph, node, register(root, f"{node.name}_module", new), args)


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
        if op in ANCHOR_OPS and context.is_constant(node.args[1]):
            geometry = _geometry(context, node, op)
            key = (_weight(node.args[1]), geometry)
            if key not in shared:
                shared[key] = register(root, f"{node.name}_module", FunctionalConv(geometry))
            bias = context.argument(node, 2, "bias")
            _call(graph, node, shared[key], (*node.args[:2], bias))
        elif op == "batch_norm" and not context.argument(node, 5, "training", False):
            batch_norm_module(root, graph, node, fixed=True)


def batch_norm_module(root: nn.Module, graph: fx.Graph, node: fx.Node, *, fixed: bool) -> fx.Node:
    """Replace a call of F.batch_norm by one of a module; `fixed`: see FunctionalNorm. Returns the
    new node."""
    context = GraphContext(root, graph)
    statistics, affine = ("running_mean", "running_var"), ("weight", "bias")
    torchs = node.target is torch.batch_norm  # its order is another than F.batch_norm's
    order = affine + statistics if torchs else statistics + affine
    found = {name: context.argument(node, i, name) for i, name in enumerate(order, 1)}
    operands = [found[name] for name in statistics + affine]
    momentum = context.argument(node, 6, "momentum", 0.1)
    norm = FunctionalNorm(momentum, context.argument(node, 7, "eps", 1e-5), fixed)
    return replace_call(root, graph, node, norm, node.args[0], *operands)


def _call(graph: fx.Graph, node: fx.Node, path: str, args: tuple[Any, ...]) -> fx.Node:
    with graph.inserting_after(node):
        new = graph.call_module(path, args)
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
    names = _TRANSPOSED if op.startswith("conv_transpose") else _CONV
    given = {name: context.argument(node, i, name) for i, name in enumerate(names, 2)}
    settings = fx.node.map_arg(
        {name: value for name, value in given.items() if name != "bias" and value is not None},
        context.value,
    )
    groups = settings.get("groups", 1)
    first, second, *kernel = context.shape(node.args[1])
    channels = (first, second * groups) if names is _TRANSPOSED else (second * groups, first)
    return Geometry.of(_MODULES[op](*channels, kernel, **settings, device="meta"))
