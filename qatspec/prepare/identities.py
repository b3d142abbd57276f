"""Removing nn.Identity: it computes nothing in either mode, and would keep two ops from fusing."""

from __future__ import annotations

from torch import fx, nn


def drop_identities(module: nn.Module, graph: fx.Graph) -> None:
    """Let the readers of an nn.Identity read its operand."""
    for node in list(graph.nodes):
        if node.op == "call_module" and type(module.get_submodule(node.target)) is nn.Identity:
            node.replace_all_uses_with(node.args[0], propagate_meta=False)
            graph.erase_node(node)
