"""Quantized weights that evaluation keeps from one batch to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

#: What a fold multiplies by: (weight, bias).
Folded = tuple[Tensor, Tensor]


class _State(NamedTuple):
    """A tensor as it was: torch counts the changes in place of each."""

    tensor: Tensor
    version: int
    address: int


class _Kept(NamedTuple):
    states: tuple[_State | None, ...]
    result: Folded


#: Not among the attributes of the modules, which are copied and pickled.
_KEPT: WeakKeyDictionary[nn.Module, _Kept] = WeakKeyDictionary()


def folded_once(
    module: nn.Module, x: Tensor, of: Sequence[Tensor | None], compute: Callable[[], Folded]
) -> Folded:
    """Return `compute()`, or its result of the last call where nothing that it depends on has
    changed since. Only evaluation without gradients keeps results.

    module: whose weight it is, in eval mode. x: its input. of: all tensors that the result depends
    on; a change of one through its `.data`, which torch does not count, is not noticed.
    """
    if torch.compiler.is_compiling() or torch.is_grad_enabled():  # the first: no graph break below
        return compute()
    if torch.is_inference_mode_enabled() or not all(map(_is_plain, (x, *of))):
        return compute()
    states = tuple(None if t is None else _State(t, t._version, t.data_ptr()) for t in of)
    kept = _KEPT.get(module)
    if kept is not None and all(map(_is_same, states, kept.states)):
        return kept.result
    result = compute()
    if all(map(_is_plain, result)):
        _KEPT[module] = _Kept(states, result)
    return result


def forget(module: nn.Module) -> None:
    """Free what is kept of a module."""
    _KEPT.pop(module, None)


def _is_plain(tensor: Tensor | None) -> bool:
    if tensor is None:
        return True
    return type(tensor) in (Tensor, nn.Parameter) and not tensor.is_inference()


def _is_same(one: _State | None, other: _State | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.tensor is other.tensor and one[1:] == other[1:]
