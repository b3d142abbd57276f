"""Float ONNX forms of the canonical ops, for the Q/DQ file. One function an op or op family."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import fx, nn

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]


def _pair(value: Any) -> list[int]:
    pair = list(value) if isinstance(value, (tuple, list)) else [value]
    return [pair[0], pair[-1]]


def _binary(op: str) -> Write:
    def write(q: QdqWriter, node: fx.Node) -> str:
        b = q.context.argument(node, 1, "other")
        names = [q.operand(node.args[0]), q.operand(b)]
        alpha = node.kwargs.get("alpha", 1)
        if alpha != 1:
            factor = q.w.const("alpha", alpha, np.float32)
            names[1] = q.w.node("Mul", [names[1], factor], f"{node.name}.alpha")
        return q.w.node(op, names, node.name)

    return write


def _unary(op: str, **attrs: Any) -> Write:
    return lambda q, node: q.w.node(op, [q.operand(node.args[0])], node.name, **attrs)


def _clip(q: QdqWriter, node: fx.Node) -> str:
    setting, op = q.context.setting, q.context.op(node)
    low, high = 0.0, 6.0  # relu6
    if op == "hardtanh":
        low, high = setting(node, 1, "min_val", -1.0), setting(node, 2, "max_val", 1.0)
    elif op == "clamp":
        low, high = setting(node, 1, "min"), setting(node, 2, "max")
    bounds = ["" if b is None else q.w.const("bound", b, np.float32) for b in (low, high)]
    return q.w.node("Clip", [q.operand(node.args[0]), *bounds], node.name)


def _silu(q: QdqWriter, node: fx.Node) -> str:
    x = q.operand(node.args[0])
    return q.w.node("Mul", [x, q.w.node("Sigmoid", [x], f"{node.name}.sigmoid")], node.name)


def _gelu(q: QdqWriter, node: fx.Node) -> str:
    if q.context.setting(node, 1, "approximate", "none") != "none":
        q.fail(node, "gelu by tanh")
    x, w = q.operand(node.args[0]), q.w
    root = w.const("root2", math.sqrt(0.5), np.float32)
    erf = w.node("Erf", [w.node("Mul", [x, root], f"{node.name}.x")], f"{node.name}.erf")
    both = w.node("Add", [erf, w.const("one", 1.0, np.float32)], f"{node.name}.both")
    half = w.node("Mul", [x, w.const("half", 0.5, np.float32)], f"{node.name}.half")
    return w.node("Mul", [half, both], node.name)


def _leaky_relu(q: QdqWriter, node: fx.Node) -> str:
    slope = float(q.context.setting(node, 1, "negative_slope", 0.01))
    return q.w.node("LeakyRelu", [q.operand(node.args[0])], node.name, alpha=slope)


def _elu(q: QdqWriter, node: fx.Node) -> str:
    alpha = float(q.context.setting(node, 1, "alpha", 1.0))
    return q.w.node("Elu", [q.operand(node.args[0])], node.name, alpha=alpha)


def _prelu(q: QdqWriter, node: fx.Node) -> str:
    module: Any = q.context.module(node)
    slope = q.tensor(node.args[1]) if module is None else module.weight
    array = slope.detach().numpy().reshape(-1, *[1] * (len(q.context.shape(node)) - 2))
    name = q.w.const(f"{node.name}.slope", array, np.float32)
    return q.w.node("PRelu", [q.operand(node.args[0]), name], node.name)


def _softmax(q: QdqWriter, node: fx.Node) -> str:
    axis = int(q.context.setting(node, 1, "dim", -1))
    return q.w.node("Softmax", [q.operand(node.args[0])], node.name, axis=axis)


def _rsqrt(q: QdqWriter, node: fx.Node) -> str:
    root = q.w.node("Sqrt", [q.operand(node.args[0])], f"{node.name}.sqrt")
    return q.w.node("Reciprocal", [root], node.name)


# -- pools and reductions ----------------------------------------------------------------------


def _pool2d(q: QdqWriter, node: fx.Node) -> str:
    setting = q.context.setting
    average = q.context.op(node) == "avg_pool2d"
    kernel = _pair(setting(node, 1, "kernel_size"))
    given = setting(node, 2, "stride")
    attrs: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": kernel if given in (None, [], ()) else _pair(given),
        "pads": _pair(setting(node, 3, "padding", 0)) * 2,
        "ceil_mode": int(bool(setting(node, 4 if average else 5, "ceil_mode", False))),
    }
    if average:
        if setting(node, 6, "divisor_override"):
            q.fail(node, "avg_pool2d with divisor_override")
        attrs["count_include_pad"] = int(bool(setting(node, 5, "count_include_pad", True)))
    else:
        attrs["dilations"] = _pair(setting(node, 4, "dilation", 1))
    op = "AveragePool" if average else "MaxPool"
    return q.w.node(op, [q.operand(node.args[0])], node.name, **attrs)


def _adaptive(q: QdqWriter, node: fx.Node) -> str:
    kind = "Average" if q.context.op(node) == "adaptive_avg_pool2d" else "Max"
    x = q.operand(node.args[0])
    sizes, results = q.context.shape(node.args[0])[2:], q.context.shape(node)[2:]  # type: ignore[arg-type]
    if results == (1, 1):
        return q.w.node(f"Global{kind}Pool", [x], node.name)
    if any(size % out for size, out in zip(sizes, results, strict=True)):
        q.fail(node, "adaptive pooling with windows of different size")
    kernel = [size // out for size, out in zip(sizes, results, strict=True)]
    return q.w.node(f"{kind}Pool", [x], node.name, kernel_shape=kernel, strides=kernel)


def _reduce(op: str) -> Write:
    def write(q: QdqWriter, node: fx.Node) -> str:
        if not _is_tensor(q.context.value(node)):
            q.fail(node, f"{op} with indices")
        rank = len(q.context.shape(node.args[0]))  # type: ignore[arg-type]
        dims = q.context.argument(node, 1, "dim")
        dims = range(rank) if dims is None else dims if isinstance(dims, (tuple, list)) else [dims]
        keep = int(bool(q.context.argument(node, 2, "keepdim", False)))
        axes = [int(d) % rank for d in dims]
        x = q.operand(node.args[0])
        if op == "ReduceSum" or q.opset >= 18:
            names = [x, q.w.const("axes", axes, np.int64)]
            return q.w.node(op, names, node.name, keepdims=keep)
        return q.w.node(op, [x], node.name, axes=axes, keepdims=keep)

    return write


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "shape")


# -- norms -------------------------------------------------------------------------------------


def _batch_norm(q: QdqWriter, node: fx.Node) -> str:
    norm = q.context.module(node)
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
        q.fail(node, "a batch norm without running statistics")
    assert norm.running_var is not None
    size = norm.running_mean.numel()
    arrays = {
        "weight": np.ones(size) if norm.weight is None else norm.weight.detach().numpy(),
        "bias": np.zeros(size) if norm.bias is None else norm.bias.detach().numpy(),
        "running_mean": norm.running_mean.numpy(),
        "running_var": norm.running_var.numpy(),
    }
    names = [q.w.const(f"{node.target}.{k}", a, np.float32) for k, a in arrays.items()]
    x = q.operand(node.args[0])
    return q.w.node("BatchNormalization", [x, *names], node.name, epsilon=norm.eps)


def _layer_norm(q: QdqWriter, node: fx.Node) -> str:
    norm = q.context.module(node)
    if not isinstance(norm, nn.LayerNorm):
        q.fail(node, "a functional layer_norm")
    size = norm.normalized_shape
    weight = np.ones(size) if norm.weight is None else norm.weight.detach().numpy()
    bias = np.zeros(size) if norm.bias is None else norm.bias.detach().numpy()
    arrays = (("weight", weight), ("bias", bias))
    names = [q.w.const(f"{node.target}.{k}", a, np.float32) for k, a in arrays]
    return q.w.node(
        "LayerNormalization",
        [q.operand(node.args[0]), *names],
        node.name,
        axis=-len(size),
        epsilon=norm.eps,
    )


# -- resizing and moves ------------------------------------------------------------------------


def _interpolate(q: QdqWriter, node: fx.Node) -> str:
    mode = q.context.setting(node, 3, "mode", "nearest")
    sizes, size = q.context.shape(node.args[0])[2:], q.context.shape(node)[2:]  # type: ignore[arg-type]
    if mode not in ("nearest", "bilinear") or len(size) != 2:
        q.fail(node, f"interpolate mode {mode!r}")
    attrs = {"mode": "nearest", "nearest_mode": "floor"}
    coordinates = "asymmetric"
    if mode == "bilinear":
        attrs = {"mode": "linear"}
        aligned = q.context.setting(node, 4, "align_corners", False)
        coordinates = "align_corners" if aligned else "pytorch_half_pixel"
    x, w = q.operand(node.args[0]), q.w
    attrs["coordinate_transformation_mode"] = coordinates
    if all(out % s == 0 for s, out in zip(sizes, size, strict=True)):
        factors = [1.0, 1.0, *(out / s for s, out in zip(sizes, size, strict=True))]
        names = [x, "", w.const(f"{node.name}.scales", factors, np.float32)]
        return w.node("Resize", names, node.name, **attrs)
    shape = w.node("Shape", [x], f"{node.name}.shape", start=0, end=2)
    wanted = [shape, w.const(f"{node.name}.size", size, np.int64)]
    whole = w.node("Concat", wanted, f"{node.name}.sizes", axis=0)
    return w.node("Resize", [x, "", "", whole], node.name, **attrs)


def _pad(q: QdqWriter, node: fx.Node) -> str:
    module = q.context.module(node)
    amounts: Any = q.context.argument(node, 1, "pad") if module is None else module.padding
    mode = "constant" if module is not None else q.context.argument(node, 2, "mode", "constant")
    value = float(q.context.setting(node, 3, "value", 0.0) or 0.0)
    if mode not in ("constant", "reflect"):
        q.fail(node, f"padding mode {mode!r}")
    rank = len(q.context.shape(node))
    amounts = [int(a) for a in amounts] + [0] * (2 * rank - len(amounts))
    pads = [amounts[2 * (rank - 1 - d) + side] for side in (0, 1) for d in range(rank)]
    names = [q.operand(node.args[0]), q.w.const(f"{node.name}.pads", pads, np.int64)]
    return q.w.node("Pad", [*names, q.w.const("fill", value, np.float32)], node.name, mode=mode)


def _concat(q: QdqWriter, node: fx.Node) -> str:
    dim = int(q.context.argument(node, 1, "dim", 0)) % len(q.context.shape(node))
    parts: Any = node.args[0]
    names = [q.operand(p) for p in parts] if isinstance(parts, (list, tuple)) else q.names[parts]
    if q.context.op(node) == "stack":
        axes = q.w.const("axes", [dim], np.int64)
        names = [q.w.node("Unsqueeze", [n, axes], f"{node.name}.part") for n in names]
    return q.w.node("Concat", names, node.name, axis=dim)


def _same(q: QdqWriter, node: fx.Node) -> str:
    return q.operand(node.args[0])


def _reshape(q: QdqWriter, node: fx.Node) -> str:
    before, after = q.context.shape(node.args[0]), q.context.shape(node)  # type: ignore[arg-type]
    if before[0] != after[0]:
        q.fail(node, "a reshape across the batch")
    return _reshaped(q, q.operand(node.args[0]), after, node.name)


def _reshaped(q: QdqWriter, x: str, after: Sequence[int], name: str) -> str:
    shape = q.w.const(f"{name}.shape", [0, *after[1:]], np.int64)
    return q.w.node("Reshape", [x, shape], name)


def _transpose(q: QdqWriter, node: fx.Node) -> str:
    rank = len(q.context.shape(node))
    perm = list(range(rank))
    rest: Any = node.args[1:]
    if q.context.op(node) == "transpose":
        a, b = (int(d) % rank for d in rest)
        perm[a], perm[b] = b, a
    else:
        dims = q.context.argument(node, 1, "dims")
        order: Any = dims if isinstance(dims, (tuple, list)) else rest
        perm = [int(d) % rank for d in order]
    return q.w.node("Transpose", [q.operand(node.args[0])], node.name, perm=perm)


def _cut(q: QdqWriter, x: str, axis: int, part: slice, size: int, name: str) -> str:
    start, stop, step = part.indices(size)
    if (start, stop, step) == (0, size, 1):
        return x
    names = [q.w.const("cut", [v], np.int64) for v in (start, stop, axis, step)]
    return q.w.node("Slice", [x, *names], name)


def _getitem(q: QdqWriter, node: fx.Node) -> Any:
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
        x = _cut(q, x, axis, part, shape[axis], f"{node.name}.slice")
        axis += 1
    return _reshaped(q, x, q.context.shape(node), node.name)


def _split(q: QdqWriter, node: fx.Node) -> list[str]:
    unbind = q.context.op(node) == "unbind"
    shape = q.context.shape(node.args[0])  # type: ignore[arg-type]
    axis = int(q.context.argument(node, 1 if unbind else 2, "dim", 0)) % len(shape)
    parts, start = [], 0
    for i, example in enumerate(q.context.value(node)):
        size = 1 if unbind else example.shape[axis]
        name = f"{node.name}.{i}"
        part = slice(start, start + size)
        x = _cut(q, q.operand(node.args[0]), axis, part, shape[axis], name)
        parts.append(_reshaped(q, x, example.shape, f"{name}.squeezed") if unbind else x)
        start += size
    return parts


def _pixel_shuffle(q: QdqWriter, node: fx.Node) -> str:
    factor = int(q.context.setting(node, 1, "upscale_factor"))
    x = q.operand(node.args[0])
    return q.w.node("DepthToSpace", [x], node.name, blocksize=factor, mode="CRD")


WRITE: dict[str, Write] = {
    "add": _binary("Add"),
    "sub": _binary("Sub"),
    "mul": _binary("Mul"),
    "div": _binary("Div"),
    "pow": _binary("Pow"),
    "matmul": _binary("MatMul"),
    "maximum": _binary("Max"),
    "minimum": _binary("Min"),
    "neg": _unary("Neg"),
    "abs": _unary("Abs"),
    "exp": _unary("Exp"),
    "sqrt": _unary("Sqrt"),
    "rsqrt": _rsqrt,
    "relu": _unary("Relu"),
    "relu6": _clip,
    "hardtanh": _clip,
    "clamp": _clip,
    "sigmoid": _unary("Sigmoid"),
    "tanh": _unary("Tanh"),
    "silu": _silu,
    "gelu": _gelu,
    "elu": _elu,
    "hardswish": _unary("HardSwish"),
    "hardsigmoid": _unary("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "softmax": _softmax,
    "max_pool2d": _pool2d,
    "avg_pool2d": _pool2d,
    "adaptive_avg_pool2d": _adaptive,
    "adaptive_max_pool2d": _adaptive,
    "mean": _reduce("ReduceMean"),
    "sum": _reduce("ReduceSum"),
    "max": _reduce("ReduceMax"),
    "batch_norm1d": _batch_norm,
    "batch_norm2d": _batch_norm,
    "batch_norm3d": _batch_norm,
    "layer_norm": _layer_norm,
    "interpolate": _interpolate,
    "pad": _pad,
    "cat": _concat,
    "stack": _concat,
    "chunk": _split,
    "split": _split,
    "unbind": _split,
    "reshape": _reshape,
    "flatten": _reshape,
    "squeeze": _reshape,
    "unsqueeze": _reshape,
    "permute": _transpose,
    "transpose": _transpose,
    "getitem": _getitem,
    "pixel_shuffle": _pixel_shuffle,
    "contiguous": _same,
    "identity": _same,
    "dropout": _same,
}
