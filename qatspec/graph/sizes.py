"""Numbers that a model takes from the shapes of its tensors.

In a traced graph such a number is a node like any other, so that it follows the input of each call:
`h // 2`, `math.ceil(h / 2)`, `int(h * 0.5)`, `min(h, 64)`. Python itself needs a real number for a
condition, for `range(h)` and for the key of a dict. That one is taken from the example input, and
`fixed` checks in each later call that it is still the same.
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

from qatspec.diag.codes import QS513
from qatspec.graph.source import line_span


def is_plain(value: Any) -> bool:
    """Return whether an example value is known and holds no tensor: a number, a shape, a dtype."""
    if value is None:
        return False
    return not any(isinstance(leaf, torch.Tensor) for leaf in pytree.tree_leaves(value))


def stands_for_plain(value: Any) -> bool:
    """Return whether a value is a proxy of a plain value, or a list with one."""
    if isinstance(value, (list, tuple)):
        return any(map(stands_for_plain, value))
    return isinstance(value, fx.Proxy) and is_plain(value.node.meta.get("example"))


def _proxy_in(value: Any) -> fx.Proxy | None:
    """The first proxy among arguments."""
    if isinstance(value, fx.Proxy):
        return value
    parts = value.values() if isinstance(value, dict) else value
    if not isinstance(value, (list, tuple, dict)):
        return None
    return next((proxy for part in parts if (proxy := _proxy_in(part)) is not None), None)


def record(function: Callable[..., Any], args: Any, kwargs: Any = None) -> Any:
    """A node that calls `function`. args or kwargs hold a proxy."""
    proxy = _proxy_in([*args, kwargs or {}])
    assert proxy is not None
    return proxy.tracer.create_proxy("call_function", function, tuple(args), dict(kwargs or {}))


# -- what tracing fixes ------------------------------------------------------------------------


@fx.node.has_side_effect
def fixed(value: Any, traced: Any, source: str) -> None:
    """Check that a number of the input's shape is the one that tracing took for a constant.

    source: "file:line" of the model's code that needed the number. Raises DiagnosticError QS513.
    """
    if isinstance(value, fx.Proxy):
        value = value.node.meta["example"]
    if type(traced)(value) == traced:
        return
    raise QS513.error(
        f"forward decides by a number of its input's shape that was {traced!r} for the "
        f"example input of `prepare` and is {value!r} for this one",
        help="use inputs of the size that the model was prepared with, or prepare it with "
        "inputs of this size; slices, `view`, `//`, `min` and `math.ceil` follow each input",
        span=line_span(source),
    )


# -- what follows each input -------------------------------------------------------------------


class _Following(type):
    """The type of `Int` and `Float`: calls of them on proxies become nodes."""

    plain: type

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        if args and stands_for_plain(args[0]):
            return record(to_int if cls.plain is int else to_float, args)
        return cls.plain(*args, **kwargs)

    def __instancecheck__(cls, instance: Any) -> bool:
        return is_instance(instance, cls.plain)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, cls.plain)

    def __eq__(cls, other: object) -> bool:
        return other is cls.plain or other is cls

    def __hash__(cls) -> int:
        return hash(cls.plain)

    def __getattr__(cls, name: str) -> Any:
        return getattr(cls.plain, name)


class Int(metaclass=_Following):
    """What `int` is in a model's files while it is traced."""

    plain = int


class Float(metaclass=_Following):
    """What `float` is in a model's files while it is traced."""

    plain = float


class _OldType(type):
    """The type of what `torch.FloatTensor` and its like are in a model's files while it is traced:
    a call with sizes or numbers of a graph becomes a node."""

    plain: Any
    of_numbers, of_sizes = torch.tensor, torch.empty  # torch's own, whose names are changed later

    def __call__(cls, *args: Any) -> Any:
        if _proxy_in(args) is None:
            return cls.plain(*args)
        numbers = len(args) == 1 and isinstance(args[0], (list, tuple))
        function = _OldType.of_numbers if numbers else _OldType.of_sizes
        return record(function, args, {"dtype": cls.plain.dtype})

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, cls.plain)


_OLD_TYPES = {
    name: _OldType(name, (), {"plain": getattr(torch, name)})
    for name in ("FloatTensor", "DoubleTensor", "LongTensor", "IntTensor", "ByteTensor")
}


def to_int(value: Any) -> Any:
    """int(value), a node where the value is one."""
    return record(to_int, (value,)) if stands_for_plain(value) else int(value)


def to_float(value: Any) -> Any:
    """float(value), a node where the value is one."""
    return record(to_float, (value,)) if stands_for_plain(value) else float(value)


def least(*values: Any, **kwargs: Any) -> Any:
    """min(...), a node where a value is one."""
    return record(least, values, kwargs) if stands_for_plain(values) else min(*values, **kwargs)


def most(*values: Any, **kwargs: Any) -> Any:
    """max(...), a node where a value is one."""
    return record(most, values, kwargs) if stands_for_plain(values) else max(*values, **kwargs)


def length(value: Any) -> Any:
    """len(value): of a tensor, its first size, which is a node."""
    is_tensor = isinstance(value, fx.Proxy) and not stands_for_plain(value)
    if is_tensor and isinstance(value.node.meta.get("example"), torch.Tensor):
        return value.size(0)
    return len(value)


def is_instance(value: Any, classes: Any) -> bool:
    """isinstance, for which the proxy of a tensor is a tensor, that of a number a number, and that
    of several results (of a recurrent cell) a tuple."""
    if isinstance(value, fx.Proxy):
        example = value.node.meta.get("example")
        if is_plain(example) or isinstance(example, (list, tuple, dict)):
            return isinstance(example, classes) or isinstance(value, classes)
        asked = classes if isinstance(classes, tuple) else (classes,)
        return (torch.Tensor in asked and isinstance(example, torch.Tensor)) or isinstance(
            value, classes
        )
    return isinstance(value, classes)


#: What a model's files call -> what they call while the model is traced.
BUILTINS: dict[str, Any] = {
    "int": Int, "float": Float, "min": least, "max": most, "len": length, "isinstance": is_instance
}  # fmt: skip
#: Functions that make tensors from sizes: torch does not accept proxies there.
_FACTORIES = (
    "zeros", "ones", "full", "empty", "arange", "linspace", "logspace", "eye", "tensor", "rand",
    "randn", "tril_indices", "triu_indices", "as_tensor",
)  # fmt: skip


def _factory(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _proxy_in([*args, kwargs]) is not None:
            return record(original, args, kwargs)
        dtype = kwargs.get("dtype")
        if isinstance(dtype, _Following):
            kwargs["dtype"] = dtype.plain
        return original(*args, **kwargs)

    return call


#: Methods of tensors that take sizes: torch reads the numbers of proxies there, which fixes them.
_METHODS = (
    "expand", "new_empty", "new_full", "new_ones", "new_zeros", "repeat", "reshape", "tile",
    "unflatten", "view",
)  # fmt: skip


def tensor_methods() -> dict[str, Callable[..., Any]]:
    """name -> a method of torch.Tensor that is a node where a size is one: of a tensor that the
    model makes of no input, such as `torch.eye(3).repeat(n, 1, 1)`."""
    return {name: _method(name, getattr(torch.Tensor, name)) for name in _METHODS}


def _method(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(tensor: Any, *args: Any, **kwargs: Any) -> Any:
        proxy = _proxy_in([*args, kwargs])
        if proxy is None:
            return original(tensor, *args, **kwargs)
        return proxy.tracer.create_proxy("call_method", name, (tensor, *args), kwargs)

    return call


def as_one_call(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, recorded as one node where it is called with a proxy."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if _proxy_in([*args, kwargs]) is None:
            return function(*args, **kwargs)
        proxy = record(function, args, kwargs)
        proxy.node.meta["is_wrapped"] = True  # a later trace of the graph's code does not enter it
        return proxy

    return call


def is_tensor(value: Any) -> bool:
    """torch.is_tensor, for which the proxy of a tensor is one."""
    return is_instance(value, torch.Tensor)


def torch_functions() -> dict[str, tuple[Callable[..., Any], Callable[..., Any]]]:
    """name in `torch` -> (the function, its version for proxies)."""
    made: dict[str, Any] = {name: (f := getattr(torch, name), _factory(f)) for name in _FACTORIES}
    types = {name: (known.plain, known) for name, known in _OLD_TYPES.items()}
    return {**made, **types, "is_tensor": (torch.is_tensor, is_tensor)}


def real_type(value: Any) -> Any:
    """`int` for `Int`, `float` for `Float`, the dtype for one of torch's old types of tensors,
    anything else as it is."""
    if isinstance(value, _OldType):
        return value.plain.dtype
    return value.plain if isinstance(value, _Following) else value


assert all(hasattr(builtins, name) for name in BUILTINS)
