"""Outputs that a float model may return and an integer program cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from qatspec.diag.codes import QS514
from qatspec.graph.batch import Batch
from qatspec.graph.deploy import carries_tensor, is_plain_constant, returned
from qatspec.prepare.unit import Unit


def check_outputs(unit: Unit) -> None:
    """Warn (QS514) of each output that is neither a tensor nor a constant: a size that follows the
    batch. The fake-quant model returns it as the float model does,
    but convert would refuse it."""
    for path, node in pytree.tree_flatten_with_path(returned(unit.graph))[0]:
        what = _no_result(unit, node)
        if what is None:
            continue
        where = f"`{unit.path}`" if unit.path else "the model"
        at = f" at {pytree.keystr(path)}" if path else ""
        unit.warnings.append(
            QS514.warning(
                f"{where} returns {what}{at}, which a converted model cannot",
                help="return tensors and constants; add the others in `predict`, or in the code "
                "that calls the module",
                span=unit.span(node) if isinstance(node, fx.Node) else None,
            )
        )


def _no_result(unit: Unit, node: Any) -> str | None:
    """What an output is in words; None for a tensor and for a constant."""
    if not isinstance(node, fx.Node):
        return None if is_plain_constant(node) else f"the constant {node!r}"
    value = unit.context.value(node)
    if "example" not in node.meta or carries_tensor(value):  # without one it is no plain value
        return None
    plain = all(map(is_plain_constant, pytree.tree_leaves(value)))
    if plain and not Batch(unit.module, unit.graph).follows(node):
        return None
    return "a size" if isinstance(value, torch.Size | int) else f"a {type(value).__name__}"
