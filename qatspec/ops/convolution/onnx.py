"""Convolutions and linear layers in ONNX, with their weights: quantized ones as integers and a
DequantizeLinear."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from qatspec.qdq import QdqWriter
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import QuantOp, is_weight_quantized

#: Output channels from which onnxruntime's uint8 convolution reads pixels in place (MlasConvSym).
DIRECT = 16


def to_onnx(node: fx.Node, q: QdqWriter) -> str:
    """Conv, ConvTranspose, Gemm or MatMul."""
    module: Any = q.context.module(node)
    if (quantized := q.context.quant_op(node)) is not None:
        return _quantized(q, node, quantized)
    if module is None or is_weight_quantized(module):
        q.fail(node, q.context.label(node))
    return _unquantized(q, node, module)


def _quantized(q: QdqWriter, node: fx.Node, module: QuantOp) -> str:
    """Write the weight as integers with a DequantizeLinear, and the op with a float bias."""
    arguments = q.operands(node)
    source: Any = node.args[1] if arguments else None
    named = isinstance(source, fx.Node) and source.op == "get_attr"
    key = str(source.target) if named else f"{node.target}.weight"
    with torch.no_grad():
        levels = module.quantized_weight(*arguments)[0]
        bias = module.folded(*arguments)[1]
    geometry = module.geometry
    if not geometry.transposed:  # runtimes compute transposed convolutions in float
        q.weights[str(node.target)] = levels.numpy()
    x, more = _widened(q, node, geometry, levels, module.weight_fake_quant)
    if more:
        levels = torch.cat([levels, torch.zeros_like(levels[:, :1]).repeat(1, more, 1, 1)], 1)
    weight = _dequantized(q, key, levels, module.weight_fake_quant, geometry)
    shape = tuple(levels.shape)
    if bias is None:
        return _apply(q, node, geometry, weight, shape, None, x)
    numbers = bias.detach().numpy()
    if _fits(q, node, numbers, module.weight_fake_quant):
        name = _bias(q, node, geometry, numbers, module.weight_fake_quant)
        return _apply(q, node, geometry, weight, shape, name, x)
    # Runtimes round the bias of a fused op to int32, in steps of both scales: it stays outside.
    product = _apply(q, node, geometry, weight, shape, None, x)
    aligned = numbers if geometry.op == "linear" else numbers.reshape(-1, *[1] * (len(shape) - 2))
    name = q.graph.const(f"{node.target}.bias", aligned, np.float32)
    return q.graph.node("Add", [product, name], node.name)


def _widened(
    q: QdqWriter, node: fx.Node, geometry: Geometry, levels: Tensor, weight_fake_quant: FakeQuantize
) -> tuple[str | None, int]:
    """(operand of a 2-d convolution, channels that it has more than the tensor): a multiple of 4
    channels, for which onnxruntime reads pixels in place instead of copying each window. (None, 0)
    where the convolution is written as it is."""
    out, channels, *kernel = levels.shape
    more = -channels % 4
    suits = len(kernel) == 2 and kernel != [1, 1] and geometry.groups == 1 and out >= DIRECT
    zeros = geometry.padding_mode == "zeros" and not geometry.transposed
    if not more or not suits or not zeros or weight_fake_quant.qspec.dtype != "qint8":
        return None, 0
    if all(map(q.is_float, node.users)):  # runtimes compute it in float
        return None, 0
    x = q.widen(q.operand(node.args[0]), more, f"{node.name}.widened")
    return (None, 0) if x is None else (x, more)


def _bias(
    q: QdqWriter,
    node: fx.Node,
    geometry: Geometry,
    bias: np.ndarray,
    weight_fake_quant: FakeQuantize,
) -> str:
    """A float bias; for a linear layer on uint8 whose result is not rounded, integers of 32 bits as
    the Program has them: onnxruntime has an integer kernel for such a layer, and for no other."""
    step = q.steps.get(str(q.names.get(node.args[0])))
    is_tail = geometry.op == "linear" and all(map(q.is_float, node.users))
    if not is_tail or step is None or weight_fake_quant.qspec.dtype != "qint8":
        return q.graph.const(f"{node.target}.bias", bias, np.float32)
    scale = weight_fake_quant.scale.detach().numpy() * step
    levels = np.rint(bias.astype(np.float64) / scale)
    names = [
        q.graph.const(f"{node.target}.bias", levels, np.int32),
        q.graph.const(f"{node.target}.bias.scale", np.broadcast_to(scale, bias.shape), np.float32),
    ]
    return q.graph.node("DequantizeLinear", names, f"{node.target}.bias.real", axis=0)


def _fits(q: QdqWriter, node: fx.Node, bias: np.ndarray, weight_fake_quant: FakeQuantize) -> bool:
    """Return whether the bias fits int32 on the scale of input times weight."""
    source: Any = node.args[0]
    input_fake_quant = q.context.module(source)
    if not isinstance(input_fake_quant, FakeQuantize) or not input_fake_quant.observed:
        return True
    of_input, of_weight = (f.scale.detach().double() for f in (input_fake_quant, weight_fake_quant))
    step = of_input * of_weight.reshape(-1)
    return bool((np.abs(bias) < 2.0**31 * step.numpy()).all())


def _unquantized(q: QdqWriter, node: fx.Node, module: Any) -> str:
    """A conv or linear that no rule quantizes."""
    inside = not isinstance(module, FunctionalConv)
    weight, bias = (module.weight, module.bias) if inside else q.operands(node)
    key = q.graph.const(f"{node.target}.weight", weight.detach().numpy(), np.float32)
    name = None
    if bias is not None:
        name = q.graph.const(f"{node.target}.bias", bias.detach().numpy(), np.float32)
    return _apply(q, node, Geometry.of(module), key, tuple(weight.shape), name)


def _dequantized(
    q: QdqWriter, key: str, levels: Tensor, fake_quant: FakeQuantize, geometry: Geometry
) -> str:
    """Integers and their DequantizeLinear along axis 0; a transposed conv's weight is stored
    output channels first and turned back behind it."""
    array = levels.numpy().astype(np.int64)
    shape = array.shape
    groups = geometry.groups if geometry.transposed else 1
    if geometry.transposed:
        split = array.reshape(groups, shape[0] // groups, *shape[1:]).swapaxes(1, 2)
        array = split.reshape(groups * shape[1], shape[0] // groups, *shape[2:])
    pair = q.grid(f"{key}_fake_quant", fake_quant, array.shape[0])
    name = q.integers(key, fake_quant.qspec.dtype, array)
    weight = q.graph.node("DequantizeLinear", [name, *pair], f"{key}.dequantized", axis=0)
    if not geometry.transposed:
        return weight
    by_group = [groups, shape[1], shape[0] // groups, *shape[2:]]
    names = [weight, q.graph.const(f"{key}.shape0", by_group, np.int64)]
    weight = q.graph.node("Reshape", names, f"{key}.split")
    perm = [0, 2, 1, *range(3, len(by_group))]
    weight = q.graph.node("Transpose", [weight], f"{key}.turned", perm=perm)
    names = [weight, q.graph.const(f"{key}.shape2", list(shape), np.int64)]
    return q.graph.node("Reshape", names, f"{key}.split")


def _apply(
    q: QdqWriter,
    node: fx.Node,
    geometry: Geometry,
    weight: str,
    shape: tuple[int, ...],
    bias: str | None,
    x: str | None = None,
) -> str:
    x = x or q.operand(node.args[0])
    if geometry.op == "linear":
        return _linear(q, node, x, weight, bias)
    # torch lists the last dim first, (left, right, top, bottom); ONNX top, left, bottom, right
    pads = [*geometry.pad[-2::-2], *geometry.pad[::-2]]
    if geometry.padding_mode != "zeros":
        rank = len(q.context.shape(node))
        mode, name = geometry.padding_mode, f"{node.name}.padded"
        x, pads = q.padded(x, geometry.pad, mode, 0.0, rank, name), [0] * len(pads)
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
    return q.graph.node(op, names, node.name, **attrs)


def _linear(q: QdqWriter, node: fx.Node, x: str, weight: str, bias: str | None) -> str:
    if len(q.context.shape(node)) == 2:
        names = [x, weight] if bias is None else [x, weight, bias]
        return q.graph.node("Gemm", names, node.name, transB=1)
    turned = q.graph.node("Transpose", [weight], f"{node.name}.weight", perm=[1, 0])
    if bias is None:
        return q.graph.node("MatMul", [x, turned], node.name)
    product = q.graph.node("MatMul", [x, turned], f"{node.name}.product")
    return q.graph.node("Add", [product, bias], node.name)
