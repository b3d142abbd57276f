"""Pass 6, swap: modules with quantized weights take the places of the float ones."""

from __future__ import annotations

import copy

from torch import fx, nn

from qatspec.prepare.custom import from_float
from qatspec.prepare.unit import Group, Unit, replace_module
from qatspec.quant.build import build_fake_quant
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import (
    Geometry,
    QuantFold,
    QuantWeight,
    fold_batch_norm,
    is_weight_quantized,
    out_channels,
    quantize_module,
)


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


def _fold(unit: Unit, group: Group, norm: fx.Node) -> None:
    """conv -> norm becomes one call of the module at the norm's path, under the conv's name."""
    conv = group.anchor
    conv_path, norm_path = str(conv.target), str(norm.target)
    module = unit.module.get_submodule(conv_path)
    old = unit.module.get_submodule(norm_path)
    if not isinstance(old, QuantFold):
        fold = fold_batch_norm(old, Geometry.of(module), _weight_fake_quant(group, module))
        replace_module(unit.module, old, fold)
    has_bias = module.bias is not None
    with unit.graph.inserting_before(conv):
        weight = unit.graph.get_attr(f"{conv_path}.weight")
        bias = unit.graph.get_attr(f"{conv_path}.bias") if has_bias else None
    conv.target = norm_path
    conv.args = (conv.args[0], weight, bias)
    conv.meta["owner"] = conv_path
    norm.replace_all_uses_with(conv, propagate_meta=False)
    unit.graph.erase_node(norm)
    group.nodes.remove(norm)


def _quantize(unit: Unit, group: Group) -> None:
    old = unit.module.get_submodule(str(group.anchor.target))
    if cls := unit.custom.qat_class(old):
        assert group.match.qconfig is not None
        replace_module(unit.module, old, from_float(cls, old, group.match.qconfig))
    elif not isinstance(old, QuantWeight) and not is_weight_quantized(old):
        replace_module(unit.module, old, quantize_module(old, _weight_fake_quant(group, old)))


def _weight_fake_quant(group: Group, module: nn.Module) -> FakeQuantize:
    assert group.weight is not None
    at = group.match.winner.at if group.match.winner else ""
    return build_fake_quant(group.weight, out_channels(module), at)


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
