"""One canonical name for each op, whatever its spelling.

`torch.nn.ReLU`, `torch.nn.functional.relu`, `torch.relu`, `Tensor.relu_` are all "relu". The table
below is the only place that knows spellings; everything else speaks canonical names.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from qatspec.quant.modules import is_weight_quantized

_NN = "torch.nn."
_F = "torch.nn.functional."
_T = "torch.Tensor."


def _spell(*names: str) -> tuple[str, ...]:
    """Expand "nn:ReLU" to torch.nn.ReLU, "f:relu" to torch.nn.functional.relu, "t:relu" to
    torch.Tensor.relu; other names ("torch.relu", "operator.add") stay as they are."""
    prefixes = {"nn": _NN, "f": _F, "t": _T}
    found = []
    for name in names:
        short, colon, rest = name.partition(":")
        found.append(prefixes[short] + rest if colon else name)
    return tuple(found)


#: canonical name -> every public spelling, as an object_type rule may write it.
SPELLINGS: dict[str, tuple[str, ...]] = {
    op: _spell(*names.split())
    for op, names in {
        # weights
        "conv1d": "nn:Conv1d f:conv1d torch.conv1d",
        "conv2d": "nn:Conv2d f:conv2d torch.conv2d",
        "conv3d": "nn:Conv3d f:conv3d torch.conv3d",
        "conv_transpose1d": "nn:ConvTranspose1d f:conv_transpose1d torch.conv_transpose1d",
        "conv_transpose2d": "nn:ConvTranspose2d f:conv_transpose2d torch.conv_transpose2d",
        "conv_transpose3d": "nn:ConvTranspose3d f:conv_transpose3d torch.conv_transpose3d",
        "linear": "nn:Linear f:linear",
        "batch_norm1d": "nn:BatchNorm1d",
        "batch_norm2d": "nn:BatchNorm2d nn:SyncBatchNorm",
        "batch_norm3d": "nn:BatchNorm3d",
        "batch_norm": "f:batch_norm torch.batch_norm",
        "layer_norm": "nn:LayerNorm f:layer_norm torch.layer_norm",
        "group_norm": "nn:GroupNorm f:group_norm torch.group_norm",
        "instance_norm1d": "nn:InstanceNorm1d",
        "instance_norm2d": "nn:InstanceNorm2d",
        "instance_norm3d": "nn:InstanceNorm3d",
        "instance_norm": "f:instance_norm torch.instance_norm",
        "embedding": "nn:Embedding f:embedding torch.embedding",
        # arithmetic
        "add": "torch.add operator.add operator.iadd t:add t:add_ t:__add__ t:__radd__",
        "sub": "torch.sub torch.subtract operator.sub operator.isub t:sub t:sub_ t:__sub__",
        "mul": "torch.mul torch.multiply operator.mul operator.imul t:mul t:mul_ t:__mul__",
        "div": "torch.div torch.true_divide operator.truediv operator.itruediv t:div t:div_",
        "floor_divide": "torch.floor_divide operator.floordiv t:floor_divide",
        "neg": "torch.neg operator.neg t:neg",
        "pow": "torch.pow operator.pow t:pow",
        "matmul": "torch.matmul torch.bmm operator.matmul t:matmul t:bmm",
        "exp": "torch.exp t:exp",
        "sqrt": "torch.sqrt t:sqrt",
        "rsqrt": "torch.rsqrt t:rsqrt",
        "abs": "torch.abs operator.abs t:abs",
        "sign": "torch.sign torch.sgn t:sign t:sgn",
        "maximum": "torch.maximum t:maximum",
        "minimum": "torch.minimum t:minimum",
        # joining and splitting
        "cat": "torch.cat torch.concat torch.concatenate",
        "stack": "torch.stack",
        "chunk": "torch.chunk t:chunk",
        "split": "torch.split torch.functional.split t:split",
        "unbind": "torch.unbind t:unbind",
        # pooling and reduction
        "max_pool1d": "nn:MaxPool1d f:max_pool1d torch.max_pool1d",
        "max_pool2d": "nn:MaxPool2d f:max_pool2d torch.max_pool2d",
        "max_pool3d": "nn:MaxPool3d f:max_pool3d torch.max_pool3d",
        "avg_pool1d": "nn:AvgPool1d f:avg_pool1d torch.avg_pool1d",
        "avg_pool2d": "nn:AvgPool2d f:avg_pool2d",
        "avg_pool3d": "nn:AvgPool3d f:avg_pool3d",
        "adaptive_avg_pool1d": "nn:AdaptiveAvgPool1d f:adaptive_avg_pool1d "
        "torch.adaptive_avg_pool1d",
        "adaptive_avg_pool2d": "nn:AdaptiveAvgPool2d f:adaptive_avg_pool2d",
        "adaptive_avg_pool3d": "nn:AdaptiveAvgPool3d f:adaptive_avg_pool3d",
        "adaptive_max_pool1d": "nn:AdaptiveMaxPool1d f:adaptive_max_pool1d",
        "adaptive_max_pool2d": "nn:AdaptiveMaxPool2d f:adaptive_max_pool2d",
        "adaptive_max_pool3d": "nn:AdaptiveMaxPool3d f:adaptive_max_pool3d",
        "mean": "torch.mean t:mean",
        "sum": "torch.sum t:sum",
        "max": "torch.max torch.amax t:max t:amax",
        "argmax": "torch.argmax t:argmax",
        # resizing and padding
        "interpolate": "nn:Upsample nn:UpsamplingNearest2d nn:UpsamplingBilinear2d f:interpolate",
        "pixel_shuffle": "nn:PixelShuffle f:pixel_shuffle torch.pixel_shuffle",
        "pixel_unshuffle": "nn:PixelUnshuffle f:pixel_unshuffle torch.pixel_unshuffle",
        "channel_shuffle": "nn:ChannelShuffle f:channel_shuffle torch.channel_shuffle",
        "pad": "nn:ZeroPad1d nn:ZeroPad2d nn:ZeroPad3d nn:ConstantPad1d nn:ConstantPad2d "
        "nn:ConstantPad3d nn:ReflectionPad1d nn:ReflectionPad2d nn:ReflectionPad3d "
        "nn:ReplicationPad1d nn:ReplicationPad2d nn:ReplicationPad3d nn:CircularPad1d "
        "nn:CircularPad2d nn:CircularPad3d f:pad",
        # shape
        "reshape": "torch.reshape t:reshape t:view nn:Unflatten t:unflatten",
        "flatten": "nn:Flatten torch.flatten t:flatten",
        "permute": "torch.permute t:permute",
        "transpose": "torch.transpose t:transpose",
        "squeeze": "torch.squeeze t:squeeze",
        "unsqueeze": "torch.unsqueeze t:unsqueeze",
        "expand": "t:expand t:expand_as",
        "contiguous": "t:contiguous",
        "getitem": "operator.getitem",
        # activations
        "relu": "nn:ReLU f:relu f:relu_ torch.relu torch.relu_ t:relu t:relu_",
        "relu6": "nn:ReLU6 f:relu6",
        "hardtanh": "nn:Hardtanh f:hardtanh f:hardtanh_",
        "clamp": "torch.clamp torch.clip torch.clamp_ t:clamp t:clip t:clamp_ t:clip_",
        "sigmoid": "nn:Sigmoid f:sigmoid torch.sigmoid torch.sigmoid_ t:sigmoid t:sigmoid_",
        "tanh": "nn:Tanh f:tanh torch.tanh torch.tanh_ t:tanh t:tanh_",
        "silu": "nn:SiLU f:silu",
        "gelu": "nn:GELU f:gelu",
        "elu": "nn:ELU f:elu",
        "hardswish": "nn:Hardswish f:hardswish",
        "hardsigmoid": "nn:Hardsigmoid f:hardsigmoid",
        "softplus": "nn:Softplus f:softplus",
        "leaky_relu": "nn:LeakyReLU f:leaky_relu f:leaky_relu_",
        "prelu": "nn:PReLU f:prelu torch.prelu",
        "softmax": "nn:Softmax f:softmax torch.softmax t:softmax",
        "log_softmax": "nn:LogSoftmax f:log_softmax torch.log_softmax t:log_softmax",
        # no arithmetic in eval
        "dropout": "nn:Dropout nn:Dropout1d nn:Dropout2d nn:Dropout3d "
        "f:dropout f:dropout1d f:dropout2d f:dropout3d",
        "identity": "nn:Identity t:clone t:detach",
        # structure of tensors, never quantized
        "shape": "builtins.getattr t:size t:dim t:numel torch.numel",
    }.items()
}

#: ops that own a weight: they anchor a group and can end in an int32 accumulator.
CONV_OPS = (
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d",
)  # fmt: skip
ANCHOR_OPS = (*CONV_OPS, "linear")
#: Ops that bound their operand: rounding before them and again behind is rounding behind them.
CLAMP_OPS = ("relu", "relu6", "hardtanh", "clamp")
BATCH_NORM_OPS = ("batch_norm1d", "batch_norm2d", "batch_norm3d", "batch_norm")


def _resolve(name: str) -> Any:
    module, _, attribute = name.rpartition(".")
    if module == "torch.Tensor":
        return getattr(torch.Tensor, attribute)
    return getattr(importlib.import_module(module), attribute)


@functools.cache
def _tables() -> tuple[dict[type, str], dict[Callable[..., Any], str], dict[str, str]]:
    """The table by what a node holds: module class, function, method name."""
    modules: dict[type, str] = {}
    functions: dict[Callable[..., Any], str] = {}
    methods: dict[str, str] = {}
    for op, names in SPELLINGS.items():
        for name in names:
            if name.startswith(_T):
                methods[name.removeprefix(_T)] = op
            elif isinstance(target := _resolve(name), type):
                modules[target] = op
            else:
                functions[target] = op
    return modules, functions, methods


def canonical_op(node: fx.Node, modules: Mapping[str, nn.Module]) -> str | None:
    """The canonical name of what `node` computes, None for an op that the table lacks.

    modules: `dict(graph_module.named_modules())`. Subclasses of a torch module count as that
    module unless they override `forward`; quantized modules answer by their `canonical_op`.
    """
    _, functions, methods = _tables()
    if node.op == "call_function":
        return functions.get(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return methods.get(str(node.target))
    if node.op != "call_module":
        return None
    return module_op(modules[str(node.target)])


def module_op(module: nn.Module) -> str | None:
    """The canonical name of what a module computes as a whole, None where it is no op.

    A subclass of torch's with a forward of its own is none, unless it has a quantized weight: what
    it computes then is looked at where the weight is read (`GraphContext.quant_op`)."""
    own = getattr(module, "canonical_op", None)
    if isinstance(own, str):
        return own
    classes = _tables()[0]
    quantized = is_weight_quantized(module)
    for base in type(module).__mro__:
        if base in classes:
            return classes[base]
        if not quantized and not {"forward", "_conv_forward"}.isdisjoint(vars(base)):
            return None
    return None


def spellings(op: str) -> tuple[str, ...]:
    """Every name that an object_type rule can call the op by, its canonical name first."""
    return (op, *SPELLINGS.get(op, ()))


def rule_names(node: fx.Node, modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The names by which a rule can address `node`: the spellings of its op and, for a module,
    the qualified names of its own class and bases ("my_net.blocks.Conv")."""
    op = canonical_op(node, modules)
    names = list(spellings(op)) if op else []
    if node.op == "call_module":
        for base in type(modules[str(node.target)]).__mro__:
            if base is nn.Module:
                break
            names.append(f"{base.__module__}.{base.__qualname__}")
    elif node.op == "call_function":
        names.append(torch.typename(node.target))
    elif node.op == "call_method":
        names.append(_T + str(node.target))
    return tuple(dict.fromkeys(names))
