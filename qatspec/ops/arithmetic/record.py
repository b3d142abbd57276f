"""Spellings, traits and functions of the ops."""

from __future__ import annotations

from qatspec.ops.family import handler
from qatspec.types import OpTrait

HANDLERS = (
    handler(
        "arithmetic",
        "sum",
        "sum and difference",
        {
            "add": "torch.add operator.add operator.iadd t:add t:add_ t:__add__ t:__radd__",
            "sub": "torch.sub torch.subtract operator.sub operator.isub t:sub t:sub_ t:__sub__",
        },
        OpTrait.ENDS_KERNEL,
        OpTrait.SUMS,
        lower="lower_add",
    ),
    handler(
        "arithmetic",
        "product",
        "product",
        {"mul": "torch.mul torch.multiply operator.mul operator.imul t:mul t:mul_ t:__mul__"},
        OpTrait.ENDS_KERNEL,
        OpTrait.PRODUCTS,
        lower="lower_mul",
    ),
    handler(
        "arithmetic",
        "div",
        "division",
        {"div": "torch.div torch.true_divide operator.truediv operator.itruediv t:div t:div_"},
        OpTrait.PRODUCTS,
        annotate="annotate_div",
        lower="lower_div",
        to_onnx="write_div",
    ),
    handler(
        "arithmetic",
        "neg",
        "change of sign",
        {"neg": "torch.neg operator.neg t:neg"},
        annotate="annotate_neg",
        lower="lower_neg",
        to_onnx="write_neg",
    ),
    handler(
        "arithmetic",
        "extremes",
        "the larger or smaller of two tensors",
        {"maximum": "torch.maximum t:maximum", "minimum": "torch.minimum t:minimum"},
        OpTrait.PICKS,
        lower="lower_extreme",
    ),
)
