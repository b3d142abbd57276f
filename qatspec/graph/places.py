"""Indices that choose by a mask, as the positions where the mask holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import fx


def by_position(index: Any) -> Any:
    """Return the index of x[index] with positions instead of masks that depend on no input.

    A list, array or tensor of booleans becomes lists of integers, one for each of its dims; a
    buffer of booleans becomes nodes that read the positions from it. A mask that is computed from
    inputs stays: how many numbers it chooses is known in a call alone.
    """
    parts = index if isinstance(index, tuple) else (index,)
    if not any(map(_is_mask, parts)):
        return index
    return tuple(
        position for part in parts for position in (_positions(part) if _is_mask(part) else [part])
    )


def as_lists(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return an index with lists of integers instead of arrays and tensors of one dim. Proxies
    stay."""
    return tuple(
        part.tolist() if isinstance(part, (np.ndarray, torch.Tensor)) and part.ndim == 1 else part
        for part in index
    )


def _is_mask(part: Any) -> bool:
    if isinstance(part, fx.Proxy):
        value = part.node.meta.get("example")
        is_mask = isinstance(value, torch.Tensor) and value.dtype == torch.bool and value.ndim > 0
        return is_mask and _is_constant(part.node)
    if isinstance(part, list):
        return bool(part) and all(isinstance(p, bool) for p in part)
    is_array = isinstance(part, (np.ndarray, torch.Tensor)) and part.ndim > 0
    return is_array and part.dtype in (np.bool_, torch.bool)


def _is_constant(node: fx.Node) -> bool:
    """Return whether a node reads parameters and buffers alone."""
    waiting, visited = [node], {node}
    while waiting:
        current = waiting.pop()
        if current.op == "placeholder":
            return False
        new = [n for n in current.all_input_nodes if n not in visited]
        waiting += new
        visited.update(new)
    return True


def _positions(mask: Any) -> list[Any]:
    if isinstance(mask, fx.Proxy):
        places = torch.nonzero(mask)  # type: ignore[call-overload]
        return [places[:, dim] for dim in range(mask.node.meta["example"].ndim)]
    return [along.tolist() for along in np.nonzero(np.asarray(mask))]
