"""One canonical name for each op, whatever its spelling.

`torch.nn.ReLU`, `torch.nn.functional.relu`, `torch.relu`, `Tensor.relu_` are all "relu". The quant
handlers' records say how models spell their ops; everything else speaks canonical names.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import fx, nn

from qatspec.quant.modules import is_weight_quantized
from qatspec.registry import registry
from qatspec.spec.symbols import symbol
from qatspec.types import OpTrait

_METHOD = "torch.Tensor."


def resolve_spelling(name: str) -> Any:
    """What a spelling names. Raises ImportError or AttributeError as Python does."""
    module, _, attribute = name.rpartition(".")
    if module == "torch.Tensor":
        return getattr(torch.Tensor, attribute)
    owner = registry().plugin_module(module) or importlib.import_module(module)
    return getattr(owner, attribute)


class _Tables:
    """Spellings by what a node holds: module class, function, method name."""

    def __init__(self, spellings: Mapping[str, tuple[str, ...]]) -> None:
        self.spellings = spellings
        self.modules: dict[type, str] = {}
        self.functions: dict[Callable[..., Any], str] = {}
        self.methods: dict[str, str] = {}
        for op, names in spellings.items():
            for name in names:
                if name.startswith(_METHOD):
                    self.methods[name.removeprefix(_METHOD)] = op
                elif isinstance(target := resolve_spelling(name), type):
                    self.modules[target] = op
                else:
                    self.functions[target] = op


_known = _Tables({})


def _tables() -> _Tables:
    """Those of the registry's present spellings."""
    global _known
    if _known.spellings is not (present := registry().spellings()):
        _known = _Tables(present)
    return _known


def canonical_op(node: fx.Node, modules: Mapping[str, nn.Module]) -> str | None:
    """The canonical name of what `node` computes, None for an op that no handler spells.

    modules: `dict(graph_module.named_modules())`. Subclasses of a torch module count as that
    module unless they override `forward`; quantized modules answer by their `canonical_op`.
    """
    if node.op == "call_function":
        return _tables().functions.get(node.target)  # type: ignore[arg-type]
    if node.op == "call_method":
        return _tables().methods.get(str(node.target))
    if node.op != "call_module":
        return None
    return module_op(modules[str(node.target)])


def module_op(module: nn.Module) -> str | None:
    """The canonical name of what a module computes as a whole, None where it is no op.

    A subclass of torch's with a forward of its own is none, unless it has a quantized weight: what
    it computes then is looked at where the weight is read (`GraphContext.quant_op`)."""
    canonical = getattr(module, "canonical_op", None)
    if isinstance(canonical, str):
        return canonical
    classes = _tables().modules
    quantized = is_weight_quantized(module)
    for base in type(module).__mro__:
        if base in classes:
            return classes[base]
        if not quantized and not {"forward", "_conv_forward"}.isdisjoint(vars(base)):
            return None
    return None


def has_trait(op: str | None, trait: OpTrait) -> bool:
    """Return whether a canonical op has a trait, according to its handler."""
    handler = registry().handler_for(op) if op else None
    return handler is not None and trait in handler.traits


def spellings(op: str) -> tuple[str, ...]:
    """Every name that an object_type rule can call the op by, its canonical name first."""
    return (op, *registry().spellings().get(op, ()))


def rule_names(node: fx.Node, modules: Mapping[str, nn.Module]) -> tuple[str, ...]:
    """The names by which a rule can address `node`: the spellings of its op and, for a module,
    the qualified and the public names of its own class and bases."""
    op = canonical_op(node, modules)
    names = list(spellings(op)) if op else []
    if node.op == "call_module":
        module = modules[str(node.target)]
        names += getattr(module, "rule_names", ())  # of the call that it stands for
        for base in type(module).__mro__:
            if base is nn.Module:
                break
            names += [f"{base.__module__}.{base.__qualname__}", symbol(base)]
    elif node.op == "call_function":
        names += [torch.typename(node.target), symbol(node.target)]
    elif node.op == "call_method":
        names.append(_METHOD + str(node.target))
    return tuple(dict.fromkeys(names))
