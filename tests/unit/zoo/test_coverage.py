"""Together the nets use every op that has integers, in every spelling."""

from __future__ import annotations

import functools
from collections.abc import Callable

import pytest
import torch
from torch import fx, nn
from torch.nn import functional

from qatspec.graph.context import GraphContext
from qatspec.graph.ops import spellings
from qatspec.graph.trace import trace
from qatspec.registry import registry
from qatspec.types import OpTrait

#: Spellings that tracing itself writes in another way, so that no handler ever meets them.
REWRITTEN: dict[str, tuple[str, Callable[[torch.Tensor], torch.Tensor]]] = {
    "torch.Tensor.__add__": ("operator.add", lambda x: x.__add__(1)),
    "torch.Tensor.__radd__": ("operator.add", lambda x: x.__radd__(1)),
    "torch.Tensor.__sub__": ("operator.sub", lambda x: x.__sub__(1)),
    "torch.Tensor.__mul__": ("operator.mul", lambda x: x.__mul__(2)),
    "torch.nn.functional.sigmoid": ("torch.Tensor.sigmoid", functional.sigmoid),
    "torch.nn.functional.tanh": ("torch.Tensor.tanh", functional.tanh),
}


class _Call(nn.Module):
    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


@functools.cache
def _names_of(target: Callable[..., object]) -> frozenset[str]:
    """Every spelling of a function or class; some are one object under two names."""
    found = set()
    for handler in registry().quant_handlers():
        for op in handler.ops:
            for name in spellings(op)[1:]:
                owner, _, attribute = name.rpartition(".")
                if owner != "torch.Tensor" and _resolve(owner, attribute) is target:
                    found.add(name)
    return frozenset(found)


def _resolve(owner: str, attribute: str) -> object:
    return getattr(__import__(owner, fromlist=[attribute]), attribute)


def spelled(node: fx.Node, context: GraphContext) -> frozenset[str]:
    """The spellings by which the model calls what the node computes."""
    if node.op == "call_method":
        return frozenset({f"torch.Tensor.{node.target}"})
    if node.op == "call_function":
        return _names_of(node.target)
    module = context.module(node)
    bases = type(module).__mro__ if module is not None else ()
    return next((names for base in bases if (names := _names_of(base))), frozenset())


def _used(context: GraphContext) -> set[str]:
    return {name for node in context.graph.nodes for name in spelled(node, context)}


def test_every_handler_in_every_spelling(graphs: dict[str, GraphContext]) -> None:
    used = set().union(*(_used(context) for context in graphs.values()))
    missing = [
        f"{handler.name}: {op} as {name}"
        for handler in registry().quant_handlers()
        if OpTrait.SIZES not in handler.traits and handler.lower is not None
        for op in handler.ops
        for name in spellings(op)[1:]
        if name not in used and name not in REWRITTEN and not name.startswith("qatspec.")
    ]
    assert not missing, "no net of the zoo has\n" + "\n".join(missing)


@pytest.mark.parametrize("name", REWRITTEN)
def test_tracing_rewrites(name: str) -> None:
    other, call = REWRITTEN[name]
    model = _Call(call)
    assert _used(GraphContext(model, trace(model, (torch.zeros(2),)))) == {other}
