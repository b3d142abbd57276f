"""Modules with float weights are replaced by ones with quantized weights."""

from __future__ import annotations

from typing import Any

from torch import nn

from qatspec.diag.codes import QS601
from qatspec.prepare.custom import from_float
from qatspec.prepare.replacing import Replacements
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import is_weight_quantized, quantize_module


def quantize_weights(unit: Unit) -> None:
    """Quantize the weights of convs and linears that no batch norm is folded into.

    Keys of parameters and buffers stay. A module that several calls share is replaced once.
    """
    replacements = Replacements(unit.module)
    for group in unit.groups:
        if group.weight is None or group.anchor.op != "call_module":
            continue
        old = unit.module.get_submodule(str(group.anchor.target))
        if cls := unit.custom.qat_class(old):
            assert group.match.qconfig is not None
            replacements.replace(old, from_float(cls, old, group.match.qconfig))
        elif not is_weight_quantized(old):
            weight = group.anchor.args[1] if isinstance(old, FunctionalConv) else old.weight
            fake_quant = weight_fake_quant(unit, group, old, weight)
            replacements.replace(old, quantize_module(old, fake_quant))


def weight_fake_quant(unit: Unit, group: FusedOps, module: nn.Module, weight: Any) -> FakeQuantize:
    """Return a fake-quant for the weight of `module`, as the group's rule says.

    weight: the parameter, or the node that gives it.
    """
    assert group.weight is not None
    at = group.match.winner.at if group.match.winner else ""
    if group.weight.dtype == "quint8":
        raise QS601.error("weights cannot be quint8", help="use `qint8`", at=at or None)
    shape = unit.context.constant(weight).shape
    return build_fake_quant(group.weight, Geometry.of(module).channels(shape), at)
