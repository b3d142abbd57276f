"""Ops that read integers among the inputs, such as an embedding of token ids. No march has them:
the host computes them, in front of the integers."""

from __future__ import annotations

from torch import Tensor, fx

from qatspec.graph.context import GraphContext

#: Why the result of such an op is not computed by the chip.
REASON = "it reads integers of the input: the host computes it"


def reading_integers(context: GraphContext) -> set[fx.Node]:
    """The ops that compute from integer inputs alone, up to their first float tensors."""
    integer_inputs: set[fx.Node] = set()
    known: set[fx.Node] = set()  # with the inputs themselves
    for node in context.graph.nodes:
        if node.op == "placeholder" and _is_of_integers(context, node):
            known.add(node)
        if not node.op.startswith("call_") or context.is_constant(node):
            continue
        operands = [
            n
            for n in node.all_input_nodes
            if isinstance(context.value(n), Tensor) and not context.is_constant(n)
        ]
        of_integers = any(_is_of_integers(context, n) for n in operands)
        if of_integers and known.issuperset(operands):
            known.add(node)
            integer_inputs.add(node)
    return integer_inputs


def _is_of_integers(context: GraphContext, node: fx.Node) -> bool:
    """Return whether the value of a node is a tensor of integers or truth values."""
    value = context.value(node)
    return isinstance(value, Tensor) and not (value.is_floating_point() or value.is_complex())
