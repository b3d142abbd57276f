"""Built-in records of this room, registered through the same entry points as any plugin."""

from __future__ import annotations

from collections.abc import Iterable

from qatspec.hookspecs import hookimpl
from qatspec.types import QuantHandler, lazy


def _handler(
    name: str,
    summary: str,
    ops: str,
    annotate: str,
    lower: str | None = None,
    reference: str | None = None,
) -> QuantHandler:
    """`annotate` and `lower` are "file:function" within this room; no `lower`: no integer form.
    reference: function in `references`; beside it is the example of the first op, under the
    handler's name."""
    where = "qatspec.handlers.references"
    return QuantHandler(
        name=name,
        summary=summary,
        ops=tuple(ops.split()),
        annotate=lazy(f"qatspec.handlers.{annotate}"),
        lower=None if lower is None else lazy(f"qatspec.handlers.{lower}"),
        reference=None if reference is None else lazy(f"{where}:{reference}"),
        example=None if reference is None else lazy(f"{where}:example_{name}"),
    )


@hookimpl
def qatspec_quant_handlers() -> Iterable[QuantHandler]:
    """Every op that qatspec knows."""
    return (
        _handler(
            "conv", "convolutions, plain and transposed",
            "conv2d conv1d conv3d conv_transpose1d conv_transpose2d conv_transpose3d",
            "conv:annotate", "conv:lower", "conv",
        ),
        _handler(
            "linear", "fully connected layers", "linear", "linear:annotate", "conv:lower", "linear"
        ),
        _handler(
            "sum", "sum and difference", "add sub", "elementwise:annotate",
            "elementwise:lower_add", "total"
        ),
        _handler(
            "product", "product", "mul", "elementwise:annotate", "elementwise:lower_mul", "product"
        ),
        _handler(
            "div", "division", "div", "elementwise:annotate_div",
            "elementwise:lower_div", "div",
        ),
        _handler(
            "matmul", "product of two matrices", "matmul", "elementwise:annotate_matmul",
            "elementwise:lower_matmul", "matmul",
        ),
        _handler(
            "argmax", "places of maxima", "argmax", "pool:annotate_max", "pool:lower_argmax",
            "argmax",
        ),
        _handler(
            "floor_division", "floor division of whole numbers", "floor_divide",
            "floor_division:annotate", "floor_division:lower", "floor_division",
        ),
        _handler(
            "float_arithmetic", "arithmetic without an integer form",
            "embedding",
            "elementwise:annotate_float",
        ),
        _handler(
            "cat", "concatenation and stacking", "cat stack", "cat:annotate", "cat:lower", "cat"
        ),
        _handler(
            "max_pool", "maxima",
            "max_pool2d max_pool1d max_pool3d adaptive_max_pool1d adaptive_max_pool2d "
            "adaptive_max_pool3d max",
            "pool:annotate_max", "pool:lower_max", "max_pool",
        ),
        _handler(
            "average", "averages and sums",
            "avg_pool2d avg_pool1d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d "
            "adaptive_avg_pool3d mean sum",
            "pool:annotate_average", "pool:lower_average", "average",
        ),
        _handler(
            "resize", "nearest and bilinear resizing", "interpolate", "resize:annotate",
            "resize:lower", "resize",
        ),
        _handler("pad", "padding", "pad", "padding:annotate", "padding:lower", "pad"),
        _handler(
            "shape", "reshaping, slicing, splitting",
            "reshape flatten permute transpose squeeze unsqueeze expand contiguous getitem "
            "chunk split unbind pixel_shuffle pixel_unshuffle channel_shuffle",
            "shape:annotate", "shape:lower", "shape",
        ),
        _handler(
            "inert", "no arithmetic in eval", "dropout identity", "shape:annotate",
            "shape:lower", "inert"
        ),
        _handler(
            "relu", "rectifier", "relu", "activation:annotate_relu", "activation:lower_relu", "relu"
        ),
        _handler(
            "clamp", "bounded rectifiers", "hardtanh relu6 clamp", "activation:annotate_clamp",
            "activation:lower_clamp", "clamp",
        ),
        _handler(
            "lut", "functions of one number, a table on the chip",
            "sigmoid tanh silu gelu elu hardswish hardsigmoid leaky_relu softplus exp "
            "sqrt rsqrt abs sign",
            "activation:annotate_lut", "activation:lower_lut", "lut",
        ),
        _handler(
            "pow", "power with a constant exponent", "pow", "activation:annotate_pow",
            "activation:lower_pow", "power",
        ),
        _handler(
            "neg", "change of sign", "neg", "activation:annotate_lut",
            "elementwise:lower_neg", "neg"
        ),
        _handler(
            "extremes", "the larger or smaller of two tensors", "maximum minimum",
            "elementwise:annotate", "elementwise:lower_extreme", "extremes",
        ),
        _handler(
            "prelu", "rectifier with a learned slope", "prelu", "activation:annotate_lut",
            "activation:lower_prelu", "prelu",
        ),
        _handler(
            "softmax", "probabilities that sum to 1", "softmax", "softmax:annotate",
            "softmax:lower_softmax", "softmax",
        ),
        _handler(
            "log_softmax", "their logarithms", "log_softmax", "softmax:annotate",
            "softmax:lower_log_softmax", "log_softmax",
        ),
        _handler(
            "batch_norm", "batch norms that were not folded",
            "batch_norm2d batch_norm1d batch_norm3d batch_norm",
            "norm:annotate_batch_norm", "norm:lower_batch_norm", "batch_norm",
        ),
        _handler(
            "layer_norm", "norm over an image's last dims", "layer_norm",
            "norm:annotate_own_statistics", "norm:lower_layer_norm", "layer_norm",
        ),
        _handler(
            "group_norm", "norm over groups of channels", "group_norm",
            "norm:annotate_own_statistics", "norm:lower_group_norm", "group_norm",
        ),
        _handler(
            "instance_norm", "norm over each channel's pixels",
            "instance_norm2d instance_norm1d instance_norm3d instance_norm",
            "norm:annotate_own_statistics", "norm:lower_instance_norm", "instance_norm",
        ),
    )  # fmt: skip
