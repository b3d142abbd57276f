"""Computed weights: a module's `weight` (or `bias`) that is a function of other parameters.

torch has two forms of them. A parametrization (torch.nn.utils.parametrizations, `parametrize`)
gives the module a class with a property, which computes the tensor wherever it is read. The older
functions (torch.nn.utils.weight_norm, spectral_norm, prune) compute it in a forward pre-hook and
leave the result in the module, where it is out of date as soon as a parameter changes. Here the
second form is turned into the first, and a module that takes the place of one with computed tensors
gets the same properties. Parameters and buffers keep their names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

_M = TypeVar("_M", bound=nn.Module)

#: attribute of a module: tensor name -> torch's hook that computes the tensor
_HOOKS = "_computed_by_hook"


def computes_weight(hook: Any, module: nn.Module) -> bool:
    """Return whether `hook` is a pre-hook of torch.nn.utils that `compute_on_read` replaces.

    Recurrent modules are excluded: they keep a list of their weights, which a property does not
    update. So is spectral_norm in a module that is not torch's own: its power iteration, which
    runs in training alone, would become part of the module's code.
    """
    if isinstance(hook, SpectralNorm):
        return isinstance(module, (nn.Linear, nn.modules.conv._ConvNd))
    return isinstance(hook, (WeightNorm, BasePruningMethod)) and not isinstance(module, nn.RNNBase)


def stored_results(module: nn.Module) -> list[Tensor]:
    """What the pre-hooks of torch.nn.utils have left in `module`: results with a gradient, which
    Python does not copy."""
    hooks = [h for h in module._forward_pre_hooks.values() if computes_weight(h, module)]
    return [t for h in hooks if isinstance(t := vars(module).get(_tensor_name(h)), Tensor)]


def _tensor_name(hook: Any) -> str:
    return str(hook._tensor_name if isinstance(hook, BasePruningMethod) else hook.name)


def compute_on_read(module: nn.Module) -> None:
    """Replace the pre-hooks of torch.nn.utils in `module` by properties that compute the same."""
    hooks = module._forward_pre_hooks
    computing = {key: hook for key, hook in hooks.items() if computes_weight(hook, module)}
    if not computing:
        return
    for key, hook in computing.items():
        del hooks[key]
        vars(module).pop(_tensor_name(hook), None)
    setattr(module, _HOOKS, {_tensor_name(hook): hook for hook in computing.values()})
    with_computed(module, module)


def with_computed(new: _M, module: nn.Module) -> _M:
    """`new`, which holds the tables of `module`, with the properties for its computed tensors."""
    parametrized = tuple(module.parametrizations) if is_parametrized(module) else ()  # type: ignore[arg-type]
    hooked = tuple(getattr(module, _HOOKS, ()))
    if parametrized or hooked:
        new.__class__ = _derived(getattr(type(new), "_base", type(new)), parametrized, hooked)
    return new


def _derived(base: type, parametrized: tuple[str, ...], hooked: tuple[str, ...]) -> Any:
    """A class like `base` whose tensors of these names are computed when they are read."""

    def reduce(module: nn.Module, protocol: Any) -> tuple[Any, ...]:
        # The class has no importable name: a copy or a pickle derives it again.
        return _blank, (base, parametrized, hooked), vars(module)

    members: dict[str, Any] = {name: property(_parametrized(name)) for name in parametrized}
    members |= {name: property(_hooked(name)) for name in hooked}
    members |= {"__reduce_ex__": reduce, "__module__": base.__module__, "_base": base}
    return type(base.__name__, (base,), members)


def _blank(base: type, parametrized: tuple[str, ...], hooked: tuple[str, ...]) -> Any:
    cls = _derived(base, parametrized, hooked)
    return cls.__new__(cls)


def _parametrized(name: str) -> Callable[[Any], Tensor]:
    return lambda module: module.parametrizations[name]()


def _hooked(name: str) -> Callable[[Any], Tensor]:
    def compute(module: Any) -> Tensor:
        hook = getattr(module, _HOOKS)[name]
        if isinstance(hook, SpectralNorm):
            return hook.compute_weight(module, do_power_iteration=module.training)
        if isinstance(hook, WeightNorm):
            return hook.compute_weight(module)  # type: ignore[no-any-return]
        return hook.apply_mask(module)  # type: ignore[no-any-return]

    return compute
