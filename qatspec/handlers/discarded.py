"""Padding whose constant reaches no result, because maxima and bounds discard it: F.pad(x,
value=-inf) in front of a max pool. It must not be observed: it would take the whole range."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qatspec.graph.constants import evaluate, result
from qatspec.graph.context import GraphContext

#: From here on a constant stands for infinity.
EXTREME = 1e4
#: Ops that may stand between the padding and what discards its constant.
_MOVES = (
    "reshape", "flatten", "permute", "transpose", "squeeze", "unsqueeze", "contiguous", "getitem",
    "chunk", "split", "unbind", "identity", "dropout",
)  # fmt: skip
_DISCARDS = (
    "max_pool1d", "max_pool2d", "max_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "max", "relu", "relu6", "hardtanh", "clamp",
)  # fmt: skip


def setting(node: fx.Node, context: GraphContext) -> tuple[tuple[int, ...], str, float]:
    """(amounts, last dim first, mode, value) of a pad, whatever its spelling."""
    module: Any = context.module(node)
    if module is None:
        amounts: Any = context.argument(node, 1, "pad")
        mode = context.argument(node, 2, "mode", "constant")
        value = context.value(context.argument(node, 3, "value"))
        return tuple(int(context.value(a)) for a in amounts), mode, float(value or 0.0)
    name = type(module).__name__.lower()
    mode = next((m for m in OWN if name.startswith(m[:7])), "constant")
    return tuple(module.padding), mode, float(getattr(module, "value", 0.0))


#: Modes of padding that repeat the tensor's own values.
OWN = ("reflect", "replicate", "circular")


def discards(pad: fx.Node, context: GraphContext) -> bool:
    """Is the constant of a pad below zero, and does every reader discard it? Then the integers of
    the padded tensor may hold the lowest integer in its place. Tried with zeros and minus
    infinity."""
    amounts, mode, value = setting(pad, context)
    if mode != "constant" or value >= 0:
        return False
    with torch.no_grad():
        zeros = torch.zeros(context.shape(pad.args[0]))
        return _all_discard(pad, F.pad(zeros, amounts, value=-torch.inf), context)


def may_pass(node: fx.Node, context: GraphContext) -> bool:
    """Does the op discard the constant of a padding before it, but may keep it where the padded
    tensor's numbers are lower? Its result then has a range of its own. An extreme constant never
    passes: the result is on the grid of the padded tensor."""
    source: Any = node.args[0]
    while isinstance(source, fx.Node) and context.op(source) in _MOVES:
        source = source.args[0]
    if not isinstance(source, fx.Node) or context.op(source) != "pad":
        return False
    return setting(source, context)[2] > -EXTREME and discards(source, context)


def _all_discard(node: fx.Node, value: Any, context: GraphContext) -> bool:
    def read(reader: fx.Node) -> bool:
        def operand(n: fx.Node) -> Any:
            return value if n is node else evaluate(context.root, n)

        op = context.op(reader)
        if reader.all_input_nodes[0] is not node or op not in (*_MOVES, *_DISCARDS):
            return False
        found = result(context.root, reader, operand)
        if op in _MOVES:
            return _all_discard(reader, found, context)
        tensors = [x for x in pytree.tree_leaves(found) if isinstance(x, Tensor)]
        return all(bool(x.isfinite().all()) for x in tensors)

    return bool(node.users) and all(map(read, node.users))
