"""Float ONNX forms of ops that move numbers, for the Q/DQ file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
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
    before, after = q.context.shape(node.args[0]), q.context.shape(node)
    if before[0] != after[0]:
        q.fail(node, "a reshape across the batch")
    return _reshaped(q, q.operand(node.args[0]), after, node.name)


def _reshaped(q: QdqWriter, x: str, after: Sequence[int], name: str) -> str:
    shape = q.w.const(f"{name}.shape", [0, *after[1:]], np.int64)
    return q.w.node("Reshape", [x, shape], name)


def transpose(q: QdqWriter, node: fx.Node) -> str:
    perm = q.context.permutation(node)
    return q.w.node("Transpose", [q.operand(node.args[0])], node.name, perm=perm)


def getitem(q: QdqWriter, node: fx.Node) -> Any:
    source: Any = node.args[0]
    given: Any = node.args[1]
    if isinstance(q.context.value(source), (tuple, list)):
        return q.names[source][given]
    index = list(given) if isinstance(given, (tuple, list)) else [given]
    shape = q.context.shape(source)
    if Ellipsis in index:
        at = index.index(Ellipsis)
        whole = len(shape) - sum(i is not None for i in index) + 1
        index[at : at + 1] = [slice(None)] * whole
    x, axis = q.operand(source), 0
    for i in index:
        if i is None:
            continue
        if not isinstance(i, (int, slice)) or (axis == 0 and i != slice(None)):
            q.fail(node, "indexing by a tensor, or of the batch")
        part = i if isinstance(i, slice) else slice(i % shape[axis], i % shape[axis] + 1)
        start, stop, step = part.indices(shape[axis])
        if (start, stop, step) != (0, shape[axis], 1):
            x = q.cut(x, axis, slice(start, stop, step), f"{node.name}.slice")
        axis += 1
    return _reshaped(q, x, q.context.shape(node), node.name)


def split(q: QdqWriter, node: fx.Node) -> list[str]:
    unbind = q.context.op(node) == "unbind"
    shape = q.context.shape(node.args[0])
    axis = int(q.context.argument(node, 1 if unbind else 2, "dim", 0)) % len(shape)
    parts, start = [], 0
    for i, example in enumerate(q.context.value(node)):
        size = 1 if unbind else example.shape[axis]
        name = f"{node.name}.{i}"
        part = slice(start, start + size)
        x = q.cut(q.operand(node.args[0]), axis, part, name)
        parts.append(_reshaped(q, x, example.shape, f"{name}.squeezed") if unbind else x)
        start += size
    return parts


def expand(q: QdqWriter, node: fx.Node) -> str:
    """Dims of 1 repeat; a constant is repeated for every image of the batch."""
    shape = list(q.context.shape(node))
    own = q.context.shape(node.args[0])
    x = q.operand(node.args[0])
    if len(own) == len(shape) and own[0] == shape[0]:
        size = q.w.const(f"{node.name}.shape", [1, *shape[1:]], np.int64)
    else:
        batch = q.w.node("Shape", [q.w.inputs[0].name], f"{node.name}.batch", start=0, end=1)
        rest = q.w.const(f"{node.name}.rest", shape[1:], np.int64)
        size = q.w.node("Concat", [batch, rest], f"{node.name}.shape", axis=0)
    return q.w.node("Expand", [x, size], node.name)


def shuffle(q: QdqWriter, node: fx.Node) -> str:
    """Dims split, swapped and merged; depth to space has an op of its own."""
    op, x = str(q.context.op(node)), q.operand(node.args[0])
    name, split, perm = SHUFFLES[op]
    factor = int(q.context.setting(node, 1, name))
    if op == "pixel_shuffle":
        return q.w.node("DepthToSpace", [x], node.name, blocksize=factor, mode="CRD")
    before = q.context.shape(node.args[0])
    x = _reshaped(q, x, [0, *split(factor, *before[1:])], f"{node.name}.split")
    x = q.w.node("Transpose", [x], f"{node.name}.swapped", perm=list(perm))
    return _reshaped(q, x, q.context.shape(node), node.name)
