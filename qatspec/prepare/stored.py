"""Tensors of the module as they are stored, where the network reads them fake-quantized: what
training changes or reads of them beside the network."""

from __future__ import annotations

from torch import fx

_AS_STORED = "as stored"


def as_stored(graph: fx.Graph, node: fx.Node) -> fx.Node:
    """Return what computes `node` in `graph`, at the place where it inserts; a tensor of the module
    gets a reader that no fake-quant is put behind, because a change of a fake-quantized copy is
    lost."""
    if node.op != "get_attr" or is_as_stored(node):
        return node
    reader = graph.get_attr(str(node.target))
    reader.meta = {**node.meta, _AS_STORED: True}
    return reader


def is_as_stored(node: fx.Node) -> bool:
    """Whether a node reads a tensor of the module by `as_stored`."""
    return bool(node.meta.get(_AS_STORED))
