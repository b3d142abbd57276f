"""A forward's arguments as the flat list that a graph's placeholders are, and back; its results."""

from __future__ import annotations

import dataclasses
import inspect
from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from torch import fx
from torch.fx.graph import _Namespace, _PyTreeCodeGen
from torch.fx.immutable_collections import immutable_dict
from torch.utils import _pytree as pytree

from qatspec.graph.sizes import is_plain

#: Dicts of Python's, and what torch.fx makes of them in a graph.
_PLAIN_DICTS = (dict, OrderedDict, defaultdict, immutable_dict)


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


def named_parts(result: Any) -> dict[str, Any] | None:
    """The parts of a result that a model's code reads as attributes: of a named tuple, of what
    torch returns as one, of a dataclass, and of a dict of a class of its own, such as the
    `ModelOutput` of transformers. None for anything else."""
    if isinstance(result, tuple):
        names = getattr(result, "_fields", None) or getattr(result, "__match_args__", ())
        return dict(zip(names, result, strict=True)) if names else None
    if _is_record(result):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result) if f.init}
    if isinstance(result, dict) and type(result) not in _PLAIN_DICTS:
        return dict(result.items())
    return None


def _is_record(result: Any) -> bool:
    return dataclasses.is_dataclass(result) and not isinstance(result, type)


def register_records(result: Any) -> bool:
    """Make the classes of dataclasses and dicts in a result of forward known to torch's pytree, as
    torch.export asks of its users and transformers does by itself. Return whether the result holds
    anything but tuples, lists, dicts and their leaves, of which torch.fx would make an op or a
    plain dict."""
    parts = named_parts(result)
    branches = parts if parts is not None else result
    if not isinstance(branches, (dict, list, tuple)):
        return False
    cls = type(result)
    if parts is not None and not isinstance(result, tuple) and cls not in pytree.SUPPORTED_NODES:
        make = partial(_from_fields if _is_record(result) else _from_items, cls)
        pytree.register_pytree_node(cls, _flat, make, flatten_with_keys_fn=_flat_with_keys)
    inside = branches.values() if isinstance(branches, dict) else branches
    has_records = [register_records(branch) for branch in inside]  # all of them, not the first
    return parts is not None or cls is OrderedDict or any(has_records)


def _flat(result: Any) -> tuple[list[Any], tuple[str, ...]]:
    parts = named_parts(result) or {}
    return list(parts.values()), tuple(parts)


def _flat_with_keys(result: Any) -> tuple[list[Any], tuple[str, ...]]:
    leaves, names = _flat(result)
    return [(pytree.MappingKey(n), leaf) for n, leaf in zip(names, leaves, strict=True)], names


def _from_fields(cls: type, values: Iterable[Any], names: Sequence[str]) -> Any:
    return cls(**dict(zip(names, values, strict=True)))


def _from_items(cls: type, values: Iterable[Any], names: Sequence[str]) -> Any:
    return cls(zip(names, values, strict=True))


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
