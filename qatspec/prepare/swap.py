"""Pass 6, swap: modules with quantized weights take the places of the float ones."""

from __future__ import annotations

import copy
from typing import Any

from torch import fx, nn

from qatspec.prepare.custom import from_float
from qatspec.prepare.unit import Group, Unit, replace_module
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.fold import QuantFold, fold_batch_norm
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import is_weight_quantized, quantize_module


def swap(unit: Unit) -> None:
    """Fold batch norms into call sites, quantize the other weights. Keys of parameters and
    buffers stay; a conv shared by several batch norms keeps one weight (ADR 0004)."""
    if unit.config.shared_conv == "copy":
        _copy_shared(unit)
    for group in unit.groups:
        if group.weight is None or group.anchor.op != "call_module":
            continue
        if group.norm is not None:
            _fold(unit, group, group.norm)
        else:
            _quantize(unit, group)
    _drop_uncalled(unit)


def _fold(unit: Unit, group: Group, norm: fx.Node) -> None:
    """conv -> norm becomes one call of the module at the norm's path, under the conv's name."""
    conv = group.anchor
    conv_path, norm_path = str(conv.target), str(norm.target)
    module = unit.module.get_submodule(conv_path)
    old = unit.module.get_submodule(norm_path)
    _hoist_constants(unit, conv, norm)
    if isinstance(module, FunctionalConv):
        weight, bias = conv.args[1:]
    else:
        with unit.graph.inserting_before(conv):
            # Not `get_attr`, which warns of a tensor that the module computes.
            weight = unit.graph.create_node("get_attr", f"{conv_path}.weight")
            has_bias = module.bias is not None
            bias = unit.graph.create_node("get_attr", f"{conv_path}.bias") if has_bias else None
        conv.meta["owner"] = conv_path
    if not isinstance(old, QuantFold):
        fake_quant = _weight_fake_quant(unit, group, module, weight)
        replace_module(unit.module, old, fold_batch_norm(old, Geometry.of(module), fake_quant))
    conv.target = norm_path
    conv.args = (conv.args[0], weight, bias, *norm.args[1:])
    norm.replace_all_uses_with(conv, propagate_meta=False)
    unit.graph.erase_node(norm)
    group.nodes.remove(norm)


def _hoist_constants(unit: Unit, conv: fx.Node, norm: fx.Node) -> None:
    """What F.batch_norm reads is loaded behind the conv; the fold reads it at the conv."""
    between = conv.next
    while between is not norm:
        node, between = between, between.next
        if unit.context.is_constant(node):
            conv.prepend(node)


def _drop_uncalled(unit: Unit) -> None:
    """A functional conv that was folded everywhere is called no more."""
    called = {n.target for n in unit.graph.nodes if n.op == "call_module"}
    for name, module in list(unit.module.named_children()):
        if isinstance(module, FunctionalConv) and name not in called:
            delattr(unit.module, name)


def _quantize(unit: Unit, group: Group) -> None:
    old = unit.module.get_submodule(str(group.anchor.target))
    if cls := unit.custom.qat_class(old):
        assert group.match.qconfig is not None
        replace_module(unit.module, old, from_float(cls, old, group.match.qconfig))
    elif not is_weight_quantized(old):
        weight = group.anchor.args[1] if isinstance(old, FunctionalConv) else old.weight
        fake_quant = _weight_fake_quant(unit, group, old, weight)
        replace_module(unit.module, old, quantize_module(old, fake_quant))


def _weight_fake_quant(unit: Unit, group: Group, module: nn.Module, weight: Any) -> FakeQuantize:
    """weight: the parameter, or the node that gives it."""
    assert group.weight is not None
    at = group.match.winner.at if group.match.winner else ""
    shape = unit.context.constant(weight).shape
    return build_fake_quant(group.weight, Geometry.of(module).channels(shape), at)


def _copy_shared(unit: Unit) -> None:
    """shared_conv: copy. Each further call of a conv gets a copy of its own, `<path>_1` and so
    on; `unit.module.copied` says whose copy each is, for checkpoints of the float model."""
    calls: dict[str, int] = {}
    for group in unit.groups:
        if group.weight is None or group.anchor.op != "call_module":
            continue
        path = str(group.anchor.target)
        calls[path] = calls.get(path, -1) + 1
        if calls[path] == 0:
            continue
        copied = f"{path}_{calls[path]}"
        owner, _, name = copied.rpartition(".")
        clone = copy.deepcopy(unit.module.get_submodule(path))
        unit.module.get_submodule(owner).add_module(name, clone)
        unit.module.copied[copied] = path
        group.anchor.target = copied
