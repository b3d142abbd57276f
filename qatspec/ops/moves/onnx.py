"""Moves of numbers in ONNX, for any batch."""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import fx

from qatspec.ops.moves.calls import GetItem, permutation, positions, split_dim
from qatspec.qdq import QdqWriter


def write_shape(node: fx.Node, q: QdqWriter) -> str:
    source: Any = node.args[0]
    return q.reshaped(node, q.operand(source), q.sizes(source), q.sizes(node), node.name)


def write_order(node: fx.Node, q: QdqWriter) -> str:
    perm = permutation(node, q.context)
    return q.graph.node("Transpose", [q.operand(node.args[0])], node.name, perm=perm)


def write_slice(node: fx.Node, q: QdqWriter) -> Any:
    call = q.context.call(node, GetItem)
    if isinstance(q.context.value(call.x), (tuple, list)):
        return q.names[call.x][call.index]
    sizes = q.sizes(call.x)
    x, axis, wider, kept = q.operand(call.x), 0, 0, list(q.sizes(node))
    for i in call.indices(len(sizes)):
        size: Any = None if i is None else sizes[axis]
        picked = positions(i, size, q.context) if isinstance(size, int) else None
        if picked is not None:
            kept = kept[picked.ndim :]
            names = [x, q.graph.const(f"{node.name}.positions", picked, np.int64)]
            x = q.graph.node("Gather", names, f"{node.name}.picked", axis=axis + wider)
            axis, wider = axis + 1, wider + picked.ndim - 1
            continue
        after = None if isinstance(i, int) else kept.pop(0)
        if i is None:
            continue
        if isinstance(size, int) and isinstance(i, (int, slice)):
            part = i if isinstance(i, slice) else slice(i % size, i % size + 1)
            start, stop, step = part.indices(size)
            if (start, stop, step) != (0, size, 1):
                x = q.cut(x, axis + wider, slice(start, stop, step), f"{node.name}.slice")
        elif not isinstance(i, slice) or after != size:
            q.fail(node, "indexing by a tensor, or of the batch")
        axis += 1
    return q.reshaped(node, x, sizes, q.sizes(node), node.name)


def write_split(node: fx.Node, q: QdqWriter) -> list[str]:
    unbind, source = q.context.op(node) == "unbind", node.args[0]
    sizes, axis = q.sizes(source), split_dim(node, q.context)
    if not isinstance(sizes[axis], int):
        q.fail(node, "splitting the batch")
    parts, start = [], 0
    for i, example in enumerate(q.context.value(node)):
        size = 1 if unbind else example.shape[axis]
        name = f"{node.name}.{i}"
        x = q.cut(q.operand(source), axis, slice(start, start + size), name)
        if unbind:
            cut = (*sizes[:axis], 1, *sizes[axis + 1 :])
            x = q.reshaped(node, x, cut, q.sizes(node, i), f"{name}.squeezed")
        parts.append(x)
        start += size
    return parts


def write_expand(node: fx.Node, q: QdqWriter) -> str:
    """Dims of 1 repeat; a constant is repeated for every image of the batch."""
    sizes, after = q.sizes(node.args[0]), q.sizes(node)
    aligned = (*(None for _ in after[len(sizes) :]), *sizes)
    wanted = [1 if have == size else size for have, size in zip(aligned, after, strict=True)]
    return q.expanded(node, q.operand(node.args[0]), wanted)
