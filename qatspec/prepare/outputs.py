"""Outputs that are no tensors: the float model may return them, an integer program cannot."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from qatspec.diag.codes import QS514
from qatspec.graph.deploy import carries_tensor, returned
from qatspec.prepare.unit import Unit


def check_outputs(unit: Unit) -> None:
    """Warn (QS514) of each output that no op computes: None, a number, a text, a size, a parameter.
    The fake-quant model returns it as the float model does, but convert would refuse it."""
    for path, node in pytree.tree_flatten_with_path(returned(unit.graph))[0]:
        what = _no_result(unit, node)
        if what is None:
            continue
        where = f"`{unit.path}`" if unit.path else "the model"
        at = f" at {pytree.keystr(path)}" if path else ""
        unit.warnings.append(
            QS514.warning(
                f"{where} returns {what}{at}, which a converted model cannot",
                help="return only tensors that forward computes from its input, and add the others "
                "in `predict`, or in the code that calls the module",
                span=unit.span(node) if isinstance(node, fx.Node) else None,
            )
        )


def _no_result(unit: Unit, node: Any) -> str | None:
    """What an output is in words; None for a tensor that forward computes."""
    if not isinstance(node, fx.Node):
        return f"the constant {node!r}"
    if node.op == "get_attr":
        return f"the parameter or buffer `{node.target}`"
    value = unit.context.value(node)
    if "example" not in node.meta or carries_tensor(value):  # without one it is no plain value
        return None
    return "a size" if isinstance(value, torch.Size | int) else f"a {type(value).__name__}"
