"""Float ONNX forms of ops that move numbers, for the Q/DQ file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx

from qatspec.handlers.shape import SHUFFLES

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter


def concat(q: QdqWriter, node: fx.Node) -> str:
    dim = int(q.context.argument(node, 1, "dim", 0)) % len(q.context.shape(node))
    parts: Any = node.args[0]
    names = [q.operand(p) for p in parts] if isinstance(parts, (list, tuple)) else q.names[parts]
    if q.context.op(node) == "stack":
        axes = q.w.const("axes", [dim], np.int64)
        names = [q.w.node("Unsqueeze", [n, axes], f"{node.name}.part") for n in names]
    return q.w.node("Concat", names, node.name, axis=dim)


def same(q: QdqWriter, node: fx.Node) -> str:
    return q.operand(node.args[0])


def reshape(q: QdqWriter, node: fx.Node) -> str:
    source: Any = node.args[0]
    return q.reshaped(node, q.operand(source), q.sizes(source), q.sizes(node), node.name)


def transpose(q: QdqWriter, node: fx.Node) -> str:
    perm = q.context.permutation(node)
    return q.w.node("Transpose", [q.operand(node.args[0])], node.name, perm=perm)


def field(q: QdqWriter, node: fx.Node) -> Any:
    """`values` or `indices` of a result with names for its parts."""
    source: Any = node.args[0]
    fields = getattr(type(q.context.value(source)), "_fields", None) or ("values", "indices")
    if not isinstance(q.names.get(source), list) or node.args[1] not in fields:
        q.fail(node, f"the attribute {node.args[1]!r}")
    return q.names[source][fields.index(node.args[1])]


def getitem(q: QdqWriter, node: fx.Node) -> Any:
    source: Any = node.args[0]
    given: Any = q.context.argument(node, 1, "index")
    if isinstance(q.context.value(source), (tuple, list)):
        return q.names[source][given]
    index = list(given) if isinstance(given, (tuple, list)) else [given]
    sizes = q.sizes(source)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = len(sizes) - sum(i is not None for i in index) + 1
        index[at : at + 1] = [slice(None)] * whole
    x, axis, kept = q.operand(source), 0, list(q.sizes(node))
    for i in index:
        after = None if isinstance(i, int) else kept.pop(0)
        if i is None:
            continue
        size = sizes[axis]
        if isinstance(size, int) and isinstance(i, (int, slice)):
            part = i if isinstance(i, slice) else slice(i % size, i % size + 1)
            start, stop, step = part.indices(size)
            if (start, stop, step) != (0, size, 1):
                x = q.cut(x, axis, slice(start, stop, step), f"{node.name}.slice")
        elif not isinstance(i, slice) or after != size:
            q.fail(node, "indexing by a tensor, or of the batch")
        axis += 1
    return q.reshaped(node, x, sizes, q.sizes(node), node.name)


def split(q: QdqWriter, node: fx.Node) -> list[str]:
    unbind, source = q.context.op(node) == "unbind", node.args[0]
    sizes = q.sizes(source)
    axis = int(q.context.argument(node, 1 if unbind else 2, "dim", 0)) % len(sizes)
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


def expand(q: QdqWriter, node: fx.Node) -> str:
    """Dims of 1 repeat; a constant is repeated for every image of the batch."""
    given, after = q.sizes(node.args[0]), q.sizes(node)
    own = (*(None for _ in after[len(given) :]), *given)
    wanted = [1 if have == size else size for have, size in zip(own, after, strict=True)]
    return q.expanded(node, q.operand(node.args[0]), wanted)


def shuffle(q: QdqWriter, node: fx.Node) -> str:
    """Dims split, swapped and merged; depth to space has an op of its own."""
    op, x = str(q.context.op(node)), q.operand(node.args[0])
    name, split, perm = SHUFFLES[op]
    factor = int(q.context.setting(node, 1, name))
    if op == "pixel_shuffle":
        return q.w.node("DepthToSpace", [x], node.name, blocksize=factor, mode="CRD")
    before = q.sizes(node.args[0])
    apart = (before[0], *split(factor, *q.context.shape(node.args[0])[1:]))
    x = q.reshaped(node, x, before, apart, f"{node.name}.split")
    x = q.w.node("Transpose", [x], f"{node.name}.swapped", perm=list(perm))
    return q.reshaped(node, x, apart, q.sizes(node), node.name)


def embedding(q: QdqWriter, node: fx.Node) -> str:
    """Rows of a table, by computed indexes."""
    module: Any = q.context.module(node)
    torchs = node.target is torch.embedding  # its order is another than F.embedding's
    if q.context.setting(node, 3, "max_norm") is not None and not torchs:
        q.fail(node, "an embedding that rescales its rows")
    table = q.operand(node.args[0 if torchs else 1]) if module is None else None
    if table is None:
        weight = module.weight.detach().numpy()
        table = q.w.const(f"{node.target}.weight", weight, np.float32)
    return q.w.node("Gather", [table, q.operand(node.args[1 if torchs else 0])], node.name, axis=0)
