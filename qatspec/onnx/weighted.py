"""Convolutions and linear layers of the Q/DQ graph, with their weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, fx

from qatspec.onnx.float_pools import padded
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import QuantOp

if TYPE_CHECKING:
    from qatspec.onnx.qdq import QdqWriter


def quantized(writer: QdqWriter, node: fx.Node, module: QuantOp) -> str:
    """One of ours: integers, a DequantizeLinear, and the op, the bias in float."""
    arguments = writer.operands(node)
    source: Any = node.args[1] if arguments else None
    named = isinstance(source, fx.Node) and source.op == "get_attr"
    key = str(source.target) if named else f"{node.target}.weight"
    with torch.no_grad():
        levels = module.quantized_weight(*arguments)[0]
        bias = module.folded(*arguments)[1]
    geometry = module.geometry
    if writer.uint8 is not None and not geometry.transposed:  # those stay in float
        writer.uint8.weights[str(node.target)] = levels.numpy()
    weight = _dequantized(writer, key, levels, module.weight_fake_quant, geometry)
    shape = tuple(levels.shape)
    if bias is None:
        return _apply(writer, node, geometry, weight, shape, None)
    numbers = bias.detach().numpy()
    if _fits(writer, node, numbers, module.weight_fake_quant):
        name = writer.w.const(f"{node.target}.bias", numbers, np.float32)
        return _apply(writer, node, geometry, weight, shape, name)
    # Runtimes round the bias of a fused op to int32, in steps of both scales: it stays outside.
    product = _apply(writer, node, geometry, weight, shape, None)
    aligned = numbers if geometry.op == "linear" else numbers.reshape(-1, *[1] * (len(shape) - 2))
    name = writer.w.const(f"{node.target}.bias", aligned, np.float32)
    return writer.w.node("Add", [product, name], node.name)


def _fits(
    writer: QdqWriter, node: fx.Node, bias: np.ndarray, weight_fake_quant: FakeQuantize
) -> bool:
    """Does the bias fit int32, in steps of the input's scale times the weight's?"""
    source: Any = node.args[0]
    input_fake_quant = writer.context.module(source)
    if not isinstance(input_fake_quant, FakeQuantize) or not input_fake_quant.observed:
        return True
    step = input_fake_quant.scale.double() * weight_fake_quant.scale.double().reshape(-1)
    return bool((np.abs(bias) < 2.0**31 * step.numpy()).all())


def unquantized(writer: QdqWriter, node: fx.Node, module: Any) -> str:
    """A conv or linear that no rule quantizes."""
    inside = not isinstance(module, FunctionalConv)
    weight, bias = (module.weight, module.bias) if inside else writer.operands(node)
    key = writer.w.const(f"{node.target}.weight", weight.detach().numpy(), np.float32)
    name = None
    if bias is not None:
        name = writer.w.const(f"{node.target}.bias", bias.detach().numpy(), np.float32)
    return _apply(writer, node, Geometry.of(module), key, tuple(weight.shape), name)


def _dequantized(
    writer: QdqWriter, key: str, levels: Tensor, fake_quant: FakeQuantize, geometry: Geometry
) -> str:
    """Integers and their DequantizeLinear along axis 0; a transposed conv's weight is stored
    output channels first and turned back behind it."""
    array = levels.numpy().astype(np.int64)
    shape = array.shape
    groups = geometry.groups if geometry.transposed else 1
    if geometry.transposed:
        split = array.reshape(groups, shape[0] // groups, *shape[1:]).swapaxes(1, 2)
        array = split.reshape(groups * shape[1], shape[0] // groups, *shape[2:])
    pair = writer.grid(f"{key}_fake_quant", fake_quant, array.shape[0])
    name = writer.integers(key, fake_quant.qspec.dtype, array)
    weight = writer.w.node("DequantizeLinear", [name, *pair], f"{key}.dequantized", axis=0)
    if not geometry.transposed:
        return weight
    split_shape = [groups, shape[1], shape[0] // groups, *shape[2:]]
    for i, (op, value) in enumerate(
        (("Reshape", split_shape), ("Transpose", None), ("Reshape", list(shape)))
    ):
        if op == "Transpose":
            perm = [0, 2, 1, *range(3, len(split_shape))]
            weight = writer.w.node(op, [weight], f"{key}.turned", perm=perm)
        else:
            target = writer.w.const(f"{key}.shape{i}", value, np.int64)
            weight = writer.w.node(op, [weight, target], f"{key}.split")
    return weight


def _apply(
    writer: QdqWriter,
    node: fx.Node,
    geometry: Geometry,
    weight: str,
    shape: tuple[int, ...],
    bias: str | None,
) -> str:
    x = writer.operand(node.args[0])
    if geometry.op == "linear":
        return _linear(writer, node, x, weight, bias)
    # torch lists the last dim first, (left, right, top, bottom); ONNX top, left, bottom, right
    pads = [*geometry.pad[-2::-2], *geometry.pad[::-2]]
    if geometry.padding_mode != "zeros":
        rank = len(writer.context.shape(node))
        mode, name = geometry.padding_mode, f"{node.name}.padded"
        x, pads = padded(writer, x, geometry.pad, mode, 0.0, rank, name), [0] * len(pads)
    attrs: dict[str, Any] = {
        "kernel_shape": list(shape[2:]),
        "strides": list(geometry.stride),
        "pads": pads,
        "dilations": list(geometry.dilation),
        "group": geometry.groups,
    }
    if geometry.transposed:
        attrs["output_padding"] = list(geometry.output_padding)
    op = "ConvTranspose" if geometry.transposed else "Conv"
    names = [x, weight] if bias is None else [x, weight, bias]
    return writer.w.node(op, names, node.name, **attrs)


def _linear(writer: QdqWriter, node: fx.Node, x: str, weight: str, bias: str | None) -> str:
    if len(writer.context.shape(node)) == 2:
        names = [x, weight] if bias is None else [x, weight, bias]
        return writer.w.node("Gemm", names, node.name, transB=1)
    turned = writer.w.node("Transpose", [weight], f"{node.name}.weight", perm=[1, 0])
    if bias is None:
        return writer.w.node("MatMul", [x, turned], node.name)
    product = writer.w.node("MatMul", [x, turned], f"{node.name}.product")
    return writer.w.node("Add", [product, bias], node.name)
