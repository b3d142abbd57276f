"""Batch norms are folded into the conv or linear before them, call by call.

A conv and its batch norm become one call of a `QuantFold`, a module that holds the norm's
parameters and statistics and takes the conv's weight and bias as operands. It is registered at the
path of the norm: there are as many of them as norms, while the conv may be shared by several norms
and stays the one owner of its weight. Every parameter and buffer keeps its key in the state dict
(ADR 0004).
"""

from __future__ import annotations

from torch import fx

from qatspec.prepare.replacing import Replacements
from qatspec.prepare.unit import FusedOps, Unit
from qatspec.prepare.weights import weight_fake_quant
from qatspec.quant.fold import QuantFold, fold_batch_norm
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry


def fold_batch_norms(unit: Unit) -> None:
    """Fold the norm of each chain whose weight is quantized."""
    replacements = Replacements(unit.module)
    for group in unit.groups:
        quantized = group.weight is not None and group.anchor.op == "call_module"
        if quantized and group.norm is not None:
            _fold(unit, group, group.norm, replacements)
    _remove_uncalled(unit)


def _fold(unit: Unit, group: FusedOps, norm: fx.Node, replacements: Replacements) -> None:
    """conv -> norm becomes one node, which has the conv's name and calls the norm's path."""
    conv = group.anchor
    conv_path, norm_path = str(conv.target), str(norm.target)
    module = unit.module.get_submodule(conv_path)
    old = unit.module.get_submodule(norm_path)
    _load_before(unit, conv, norm)
    if isinstance(module, FunctionalConv):
        weight, bias = conv.args[1:]
    else:
        with unit.graph.inserting_before(conv):
            # Not `get_attr`, which warns of a tensor that the module computes.
            weight = unit.graph.create_node("get_attr", f"{conv_path}.weight")
            has_bias = module.bias is not None
            bias = unit.graph.create_node("get_attr", f"{conv_path}.bias") if has_bias else None
        conv.meta["owner"] = conv_path
    if not isinstance(old, QuantFold):  # a norm that is called twice is folded once
        fake_quant = weight_fake_quant(unit, group, module, weight)
        replacements.replace(old, fold_batch_norm(old, Geometry.of(module), fake_quant))
    conv.target = norm_path
    conv.args = (conv.args[0], weight, bias, *norm.args[1:])
    norm.replace_all_uses_with(conv, propagate_meta=False)
    unit.graph.erase_node(norm)
    group.nodes.remove(norm)
    group.norm = None


def _load_before(unit: Unit, conv: fx.Node, norm: fx.Node) -> None:
    """Move the constants that F.batch_norm reads from between conv and norm to before the conv."""
    between = conv.next
    while between is not norm:
        node, between = between, between.next
        if unit.context.is_constant(node):
            conv.prepend(node)


def _remove_uncalled(unit: Unit) -> None:
    """Remove functional convs whose every call was folded."""
    called = {n.target for n in unit.graph.nodes if n.op == "call_module"}
    for name, module in list(unit.module.named_children()):
        if isinstance(module, FunctionalConv) and name not in called:
            delattr(unit.module, name)
