"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

_SHAPES = {
    "reshape": "torch.reshape t:reshape t:view nn:Unflatten t:unflatten",
    "flatten": "nn:Flatten torch.flatten t:flatten",
    "squeeze": "torch.squeeze t:squeeze",
    "unsqueeze": "torch.unsqueeze t:unsqueeze",
}
_ORDERS = {
    "permute": "torch.permute t:permute",
    "transpose": "torch.transpose t:transpose",
}
_PARTS = {
    "chunk": "torch.chunk t:chunk",
    "split": "torch.split torch.functional.split t:split",
    "unbind": "torch.unbind t:unbind",
}

HANDLERS = (
    handler(
        "moves", "shape", "new shapes of the same numbers", _SHAPES,
        OpTrait.MOVES, OpTrait.REARRANGES, lower="lower_shape", to_onnx="write_shape",
    ),
    handler(
        "moves", "order", "other orders of dims", _ORDERS,
        OpTrait.MOVES, OpTrait.REARRANGES, lower="lower_order", to_onnx="write_order",
    ),
    handler(
        "moves", "slice", "slicing", {"getitem": "operator.getitem"},
        OpTrait.MOVES, OpTrait.REARRANGES, lower="lower_slice", to_onnx="write_slice",
    ),
    handler(
        "moves", "split", "splitting", _PARTS,
        OpTrait.MOVES, OpTrait.REARRANGES, lower="lower_split", to_onnx="write_split",
    ),
    handler(
        "moves", "expand", "dims of 1 repeated", {"expand": "t:expand t:expand_as"},
        OpTrait.MOVES, lower="lower_expand", to_onnx="write_expand",
    ),
)  # fmt: skip
