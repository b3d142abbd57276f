"""Hooks are refused: tracing records what `forward` computes, and would drop what a hook does.

Which hooks change a result (a doubled output) and which do not (a profiler) cannot be told apart,
so there is one rule for all of them. State dict hooks do not run in `forward` and are kept, and so
are the pre-hooks by which torch.nn.utils computes a weight (`qatspec.quant.computed`).
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch.nn.modules.module as torch_module
from torch import nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS508
from qatspec.quant.computed import computes_weight
from qatspec.source import code_line

#: attribute of a module, or of torch's global registry -> the method that fills it
_OF_MODULES = {
    "_forward_pre_hooks": "register_forward_pre_hook",
    "_forward_hooks": "register_forward_hook",
    "_backward_pre_hooks": "register_full_backward_pre_hook",
    "_backward_hooks": "register_full_backward_hook",
}
_GLOBAL = {
    "_global_forward_pre_hooks": "register_module_forward_pre_hook",
    "_global_forward_hooks": "register_module_forward_hook",
    "_global_backward_pre_hooks": "register_module_full_backward_pre_hook",
    "_global_backward_hooks": "register_module_full_backward_hook",
}
_OF_PARAMETERS = {
    "_backward_hooks": "register_hook",
    "_post_accumulate_grad_hooks": "register_post_accumulate_grad_hook",
}


def refused_hooks(model: nn.Module) -> list[Diagnostic]:
    """Return QS508 for each hook of the model's modules and parameters, and each global hook."""
    refusals = []
    for attribute, method in _GLOBAL.items():
        refusals += [
            _refused("every module of the process", "", f"torch.nn.modules.module.{method}", hook)
            for hook in getattr(torch_module, attribute).values()
        ]
    for path, module in model.named_modules():
        refusals += [
            _refused(f"module `{path}`" if path else "the model", path, method, hook)
            for method, hook in _hooks(module, _OF_MODULES)
            if not computes_weight(hook, module)
        ]
    for name, parameter in model.named_parameters():
        refusals += [
            _refused(f"parameter `{name}`", name, method, hook)
            for method, hook in _hooks(parameter, _OF_PARAMETERS)
        ]
    return refusals


def _hooks(owner: Any, attributes: dict[str, str]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for attribute, method in attributes.items():
        for hook in (getattr(owner, attribute, None) or {}).values():
            yield method, hook


def _refused(owner: str, path: str, method: str, hook: Callable[..., Any]) -> Diagnostic:
    again = f"`{method}`" if not path else f"`{method}` on `{path}` of the prepared model"
    advice = (
        "write what changes a result into `forward`; remove a hook that only watches "
        f"(`handle.remove()`) before `prepare`, and set it again with {again}"
    )
    if isinstance(hook, WeightNorm | SpectralNorm):
        kind = "weight_norm" if isinstance(hook, WeightNorm) else "spectral_norm"
        advice = (
            f"call `torch.nn.utils.remove_{kind}(module, {hook.name!r})`, then "
            f"`torch.nn.utils.parametrizations.{kind}(module, {hook.name!r})`"
        )
    return QS508.diagnostic(
        f"{owner} has a hook, {_name(hook)}, set by `{method}`: it would not be part of "
        "the prepared model",
        help=advice,
        span=_span(hook),
    )


def _code(hook: Callable[..., Any]) -> Any:
    while isinstance(hook, functools.partial):
        hook = hook.func
    hook = inspect.unwrap(hook)
    if not inspect.isroutine(hook):  # an object whose class has `__call__`
        hook = type(hook).__call__
    return getattr(hook, "__code__", None)  # a bound method answers for its function


def _name(hook: Callable[..., Any]) -> str:
    name = getattr(hook, "__qualname__", None) or type(hook).__name__
    return f"`{name}`"


def _span(hook: Callable[..., Any]) -> Span | None:
    code = _code(hook)
    return None if code is None else code_line(code.co_filename, code.co_firstlineno)
