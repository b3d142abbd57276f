"""A forward's arguments as the flat list that a graph's placeholders are, and back; its results."""

from __future__ import annotations

import inspect
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import fx
from torch.fx.graph import _Namespace, _PyTreeCodeGen
from torch.utils import _pytree as pytree

from qatspec.graph.sizes import is_plain


class TreeCodeGen(_PyTreeCodeGen):
    """fx's, whose copies share the tree specs: those never change, and torch warns where the spec
    of a leaf is copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> TreeCodeGen:
        return TreeCodeGen(self.pytree_info)


def flat_arguments(bound: inspect.BoundArguments) -> tuple[list[str], list[Any]]:
    """Names and values of the arguments given, without self; *args and **kwargs spread out."""
    names: list[str] = []
    values: list[Any] = []
    parameters = bound.signature.parameters
    for name, value in list(bound.arguments.items())[1:]:
        kind = parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{name}_{i}" for i in range(len(value))]
            values += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            names += value
            values += value.values()
        else:
            names.append(name)
            values.append(value)
    return names, values


def leaf_name(names: Sequence[str], path: Sequence[Any]) -> str:
    """ "feats_2" for the leaf at feats[2]."""
    first, *rest = (getattr(key, "idx", getattr(key, "key", key)) for key in path)
    return "_".join([names[first], *(str(key) for key in rest)])


def rebind(bound: inspect.BoundArguments, values: Sequence[Any]) -> inspect.BoundArguments:
    """`bound` with other values, in the order of `flat_arguments`."""
    left = iter(values)
    arguments = dict(bound.arguments)
    for name, value in list(arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = tuple(next(left) for _ in value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            arguments[name] = {key: next(left) for key in value}
        else:
            arguments[name] = next(left)
    return inspect.BoundArguments(bound.signature, arguments)


def has_named(result: Any) -> bool:
    """Return whether the result of forward holds a named tuple, of which fx would make an op, or an
    OrderedDict, of which it would make a dict."""
    if isinstance(result, dict):
        return type(result) is OrderedDict or any(map(has_named, result.values()))
    if isinstance(result, (list, tuple)):
        return hasattr(result, "_fields") or any(map(has_named, result))
    return False


def take_apart(result: Any) -> tuple[Any, bool]:
    """Return (what forward returns, in which several tensors that one op gives, such as
    x.chunk(2, 1), are taken apart; whether there are any)."""
    leaves, spec = pytree.tree_flatten(result)
    parts = [_parts(leaf) for leaf in leaves]
    changed = any(part is not leaf for part, leaf in zip(parts, leaves, strict=True))
    return (pytree.tree_unflatten(parts, spec) if changed else result), changed


def _parts(leaf: Any) -> Any:
    example = leaf.node.meta.get("example") if isinstance(leaf, fx.Proxy) else None
    if not isinstance(example, (list, tuple)) or is_plain(example):
        return leaf
    parts = [_parts(leaf[i]) for i in range(len(example))]
    return type(example)(parts)


def port_name(argument: str) -> str:
    """The name of the port for a tensor that is an argument of forward: that of its placeholder,
    which torch.fx keeps apart from Python's builtins (`input_1`)."""
    return _Namespace().create_name(argument, None)
