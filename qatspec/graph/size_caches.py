"""Caches that a model keeps for the shape of its last input: `if self.shape != x.shape: ...`."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.sizes import is_plain

_COMPARISONS: dict[Any, bool] = {operator.eq: False, operator.ne: True}


def answer_for_a_new_shape(node: fx.Node, root: nn.Module) -> bool | None:
    """Return what a comparison with a stored shape gives for a batch of another size; None where
    `node` is no comparison of a tensor's shape with a torch.Size that a module of `root` stores.

    The shape holds the number of images. A graph is for any number, so that it records how the
    cache is filled, as for an input that is new, and reads nothing that an earlier call left."""
    answer = _COMPARISONS.get(node.target)
    if answer is None or node.op != "call_function" or len(node.args) != 2:
        return None
    for shape, stored in (node.args, node.args[::-1]):
        example = shape.meta.get("example") if isinstance(shape, fx.Node) else None
        if isinstance(example, torch.Size) and is_plain(example) and _is_stored(stored, root):
            return bool(answer)
    return None


def _is_stored(value: Any, root: nn.Module) -> bool:
    if not isinstance(value, tuple) or not value:
        return False
    return any(
        type(other) is torch.Size and tuple(other) == tuple(value)
        for module in root.modules()
        for other in vars(module).values()
    )
