"""Training and evaluation mode for a while, module by module: a model may hold frozen parts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx, nn
from torch.fx import _symbolic_trace
from torch.nn import functional
from torch.nn.modules import transformer
from torch.utils import _pytree as pytree

#: What every module keeps of its own.
_TABLES = frozenset(vars(nn.Module()))


@contextmanager
def kept_modes(model: nn.Module) -> Iterator[None]:
    """Every module is in its own mode again afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:
            if module.training != training:  # torch takes its time to set an attribute
                module.training = training


@contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside."""
    with kept_modes(model):
        if any(module.training for module in model.modules()):
            model.eval()
        yield


@contextmanager
def kept_caches(model: nn.Module) -> Iterator[None]:
    """Every dict, list and set that is an attribute of a module holds afterwards what it held
    before: forward may keep results in them, and while tracing these are no tensors."""
    kept = [
        (vars(module), name, value, copy.copy(value))
        for module in model.modules()
        for name, value in vars(module).items()
        if type(value) in (dict, list, set) and name not in _TABLES
    ]
    try:
        yield
    finally:
        for attributes, name, value, before in kept:
            value.clear()
            if isinstance(value, list):
                value.extend(before)
            else:
                value.update(before)
            attributes[name] = value


@contextmanager
def kept_attributes(model: nn.Module) -> Iterator[Callable[[], None]]:
    """Every attribute and buffer to which forward assigns what it computes, while it is traced, is
    afterwards what it was before. Gives a function that restores them at once."""
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in model.modules()]

    def restore() -> None:
        for module, before, buffers in kept:
            for name in assigned_buffers(module):
                module._buffers[name] = buffers[name]
            attributes = vars(module)
            for name, value in list(attributes.items()):
                if name in _TABLES or before.get(name) is value:
                    continue
                if any(isinstance(leaf, fx.Proxy) for leaf in pytree.tree_leaves(value)):
                    del attributes[name]
                    attributes.update({name: before[name]} if name in before else {})

    try:
        yield restore
    finally:
        restore()


def assigned_buffers(module: nn.Module) -> dict[str, fx.Proxy]:
    """The module's buffers to which forward has assigned what it computes, while it was traced."""
    buffers: dict[str, Any] = module._buffers
    return {name: x for name, x in buffers.items() if isinstance(x, fx.Proxy)}


@contextmanager
def entering_wrapped_functions() -> Iterator[None]:
    """Let functions that a Python file gave to torch.fx.wrap be entered inside, as others are: a
    drop path that is one opaque call differs in each mode. Those that a spec wraps stay calls, in
    the code that torch.fx generates."""
    table = _symbolic_trace._wrapped_fns_to_patch
    before = dict(table)
    for key, names in before.items():
        if names.get("__file__"):
            del table[key]
    try:
        yield
    finally:
        table.update(before)


@contextmanager
def without_fast_paths() -> Iterator[None]:
    """Let torch's transformer layers run the same code in evaluation as in training inside. In
    evaluation they otherwise call one fused kernel that computes the same. Nor do they look at the
    numbers of a mask, which decides whether another kernel may be used."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    looks = functional._none_or_dtype, transformer._detect_is_causal_mask
    torch.backends.mha.set_fastpath_enabled(False)
    functional._none_or_dtype = lambda input: None if input is None else input.dtype  # noqa: A006
    transformer._detect_is_causal_mask = lambda mask, is_causal=None, size=None: bool(is_causal)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)
        functional._none_or_dtype, transformer._detect_is_causal_mask = looks
