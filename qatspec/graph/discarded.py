"""Padding whose constant reaches no result, because maxima and bounds discard it: F.pad(x,
value=-inf) in front of a max pool. It must not be observed: it would take the whole range."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx
from torch.utils import _pytree as pytree

from qatspec.graph.constants import evaluate, result
from qatspec.graph.context import GraphContext
from qatspec.types import OpTrait

#: From here on a constant stands for infinity.
EXTREME = 1e4
#: Modes of padding that repeat the tensor's own values.
OWN_VALUES = ("reflect", "replicate", "circular")


@dataclass(frozen=True, slots=True)
class _Pad:
    x: Any
    pad: Any = ()
    mode: str = "constant"
    value: Any = None


@dataclass(frozen=True, slots=True)
class Padding:
    """amounts: before and after each dim, the last dim first, as torch lists them."""

    amounts: tuple[int, ...]
    mode: str
    value: float


def padding_of(node: fx.Node, context: GraphContext) -> Padding:
    """What a pad does, whatever its spelling."""
    module: Any = context.module(node)
    if module is None:
        call = context.call(node, _Pad)
        amounts = tuple(int(context.value(a)) for a in call.pad)
        return Padding(amounts, call.mode, float(context.value(call.value) or 0.0))
    name = type(module).__name__.lower()
    mode = next((m for m in OWN_VALUES if name.startswith(m[:7])), "constant")
    return Padding(tuple(module.padding), mode, float(getattr(module, "value", 0.0)))


def discards(pad: fx.Node, context: GraphContext) -> bool:
    """Return whether the constant of a pad is below zero and every reader discards it. Then the
    integers of the padded tensor may hold the lowest integer in its place. Tried with zeros and
    minus infinity."""
    padding = padding_of(pad, context)
    if padding.mode != "constant" or padding.value >= 0:
        return False
    with torch.no_grad():
        zeros = torch.zeros(context.shape(pad.args[0]))
        padded = F.pad(zeros, padding.amounts, value=-torch.inf)
        return _all_discard(pad, padded, context)


def may_pass(node: fx.Node, context: GraphContext) -> bool:
    """Return whether the op discards the constant of a padding before it, but may keep it where the
    padded tensor's numbers are lower? Its result then has a range of its own. An extreme constant
    never passes: the result is on the grid of the padded tensor."""
    source: Any = node.args[0]
    while isinstance(source, fx.Node) and context.has_trait(source, OpTrait.REARRANGES):
        source = source.args[0]
    if not isinstance(source, fx.Node) or context.op(source) != "pad":
        return False
    return padding_of(source, context).value > -EXTREME and discards(source, context)


def _all_discard(node: fx.Node, value: Any, context: GraphContext) -> bool:
    def read(reader: fx.Node) -> bool:
        def operand(n: fx.Node) -> Any:
            return value if n is node else evaluate(context.root, n)

        rearranges = context.has_trait(reader, OpTrait.REARRANGES)
        bounds = any(context.has_trait(reader, t) for t in (OpTrait.CLAMP, OpTrait.MAXIMUM))
        if reader.all_input_nodes[0] is not node or not (rearranges or bounds):
            return False
        computed = result(context.root, reader, operand)
        if rearranges:
            return _all_discard(reader, computed, context)
        tensors = [x for x in pytree.tree_leaves(computed) if isinstance(x, Tensor)]
        return all(bool(x.isfinite().all()) for x in tensors)

    return bool(node.users) and all(map(read, node.users))
