"""Pools in standard ONNX ops."""

from __future__ import annotations

import numpy as np

from qatspec.ir import RANGE, STORAGE, Op
from qatspec.kinds.attributes import BYTES
from qatspec.kinds.emitter import Emitter
from qatspec.kinds.parts import add_products


def max_pool(emit: Emitter, op: Op) -> str:
    """Padded by hand with the lowest integer: ONNX bounds its own padding by the kernel."""
    a, graph = op.attrs, emit.graph
    top, left, bottom, right = a["padding"]
    lowest = RANGE[emit.dtype(op.inputs[0])][0]

    def write(x: str) -> str:
        dtype = STORAGE[emit.dtype(op.inputs[0])] if narrow else np.float32
        if any(a["padding"]):
            pads = graph.const(
                f"{op.output}.pads", [0, 0, top, left, 0, 0, bottom, right], np.int64
            )
            x = graph.node(
                "Pad", [x, pads, graph.const("lowest", lowest, dtype)], f"{op.output}.pad"
            )
        return graph.node(
            "MaxPool",
            [x],
            op.output if narrow else f"{op.output}.max",
            kernel_shape=list(a["kernel"]),
            strides=list(a["stride"]),
            dilations=list(a["dilation"]),
        )

    narrow = emit.dtype(op.inputs[0]) != "int16"
    return emit.through(op, BYTES, np.float32, write)


def sum_pool(emit: Emitter, op: Op) -> str:
    """A depthwise conv by ones."""
    a, channels = op.attrs, emit.shape(op.inputs[0])[0]
    ones = np.ones((channels, 1, *a["kernel"]), np.int8)
    conv = Op(
        kind="conv",
        inputs=(op.inputs[0], f"{op.output}.ones"),
        output=op.output,
        attrs={**a, "dilation": (1, 1), "groups": channels},
    )

    def write(x: str, name: str, output: str) -> str:
        return emit.graph.node(
            "ConvInteger",
            [x, name],
            output,
            kernel_shape=list(a["kernel"]),
            strides=list(a["stride"]),
            pads=list(a["padding"]),
            group=channels,
        )

    return add_products(emit, conv, ones, write, ())
