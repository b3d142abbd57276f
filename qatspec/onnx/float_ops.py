"""Float ONNX forms of the canonical ops, for the Q/DQ file: `WRITE[op](writer, node)` gives the
name of the result, or the names of several."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import fx

from qatspec.onnx import (
    float_arithmetic as arithmetic,
    float_functions as functions,
    float_moves as moves,
    float_norms as norms,
    float_pools as pools,
)

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter

Write = Callable[["QdqWriter", fx.Node], Any]

WRITE: dict[str, Write] = {
    "add": arithmetic.binary("Add"),
    "sub": arithmetic.binary("Sub"),
    "mul": arithmetic.binary("Mul"),
    "div": arithmetic.divide,
    "floor_divide": arithmetic.floor_divide,
    "pow": arithmetic.binary("Pow", "exponent"),
    "matmul": arithmetic.binary("MatMul"),
    "maximum": arithmetic.binary("Max"),
    "minimum": arithmetic.binary("Min"),
    "neg": functions.unary("Neg"),
    "abs": functions.unary("Abs"),
    "sign": functions.unary("Sign"),
    "exp": functions.unary("Exp"),
    "sqrt": functions.unary("Sqrt"),
    "rsqrt": functions.rsqrt,
    "relu": functions.unary("Relu"),
    "relu6": functions.clip,
    "hardtanh": functions.clip,
    "clamp": functions.clip,
    "sigmoid": functions.unary("Sigmoid"),
    "tanh": functions.unary("Tanh"),
    "silu": functions.silu,
    "gelu": functions.gelu,
    "elu": functions.elu,
    "hardswish": functions.unary("HardSwish"),
    "hardsigmoid": functions.unary("HardSigmoid", alpha=1.0 / 6.0, beta=0.5),
    "leaky_relu": functions.leaky_relu,
    "softplus": functions.softplus,
    "prelu": functions.prelu,
    "softmax": functions.softmax("Softmax"),
    "log_softmax": functions.softmax("LogSoftmax"),
    **{f"max_pool{n}d": pools.max_pool for n in (1, 2, 3)},
    **{f"avg_pool{n}d": pools.average_pool for n in (1, 2, 3)},
    **{f"adaptive_avg_pool{n}d": pools.adaptive("Average") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d": pools.adaptive("Max") for n in (1, 2, 3)},
    "mean": pools.reduction("ReduceMean"),
    "sum": pools.reduction("ReduceSum"),
    "max": pools.maximum,
    "argmax": pools.argmax,
    "batch_norm": norms.batch_norm,
    **{f"batch_norm{n}d": norms.batch_norm for n in (1, 2, 3)},
    "layer_norm": norms.layer_norm,
    "group_norm": norms.group_norm,
    "instance_norm": norms.instance_norm,
    **{f"instance_norm{n}d": norms.instance_norm for n in (1, 2, 3)},
    "interpolate": pools.interpolate,
    "pad": pools.pad,
    "cat": moves.concat,
    "stack": moves.concat,
    "chunk": moves.split,
    "split": moves.split,
    "unbind": moves.split,
    "reshape": moves.reshape,
    "flatten": moves.reshape,
    "squeeze": moves.reshape,
    "unsqueeze": moves.reshape,
    "permute": moves.transpose,
    "transpose": moves.transpose,
    "getitem": moves.getitem,
    "shape": moves.field,
    "embedding": moves.embedding,
    "expand": moves.expand,
    "pixel_shuffle": moves.shuffle,
    "pixel_unshuffle": moves.shuffle,
    "channel_shuffle": moves.shuffle,
    "contiguous": moves.same,
    "identity": moves.same,
    "dropout": moves.same,
}
