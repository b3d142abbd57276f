"""What stands for a tensor while tracing: fx's proxies, answering Python's questions from the
example values of their nodes."""

from __future__ import annotations

import contextlib
import functools
import inspect
import linecache
import math
import operator
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import Attribute
from torch.utils import _pytree as pytree

from qatspec.graph.assign import assign, is_read_and_written
from qatspec.graph.messages import is_in_message
from qatspec.graph.places import as_lists, by_position
from qatspec.graph.sizes import (
    BUILTINS,
    as_one_call,
    is_plain,
    record,
    stands_for_plain,
    tensor_methods,
    torch_functions,
)  # fmt: skip


class _Known:
    """Python's questions that a proxy answers from its example value."""

    node: fx.Node
    tracer: Any

    def __len__(self) -> int:
        return int(self.tracer.length(self.node, "len()"))

    def __index__(self) -> int:
        return int(self.tracer.fixed(self.node, int, "an integer"))

    def __int__(self) -> int:
        return int(self.tracer.fixed(self.node, int, "an integer"))

    def __float__(self) -> float:
        return float(self.tracer.fixed(self.node, float, "a number"))

    def __hash__(self) -> int:  # of a number: it may be the key of a dict
        if not stands_for_plain(self):
            return id(self)
        if sys._getframe(1).f_globals.get("__name__") == "einops.einops":
            raise TypeError("einops keeps no results for sizes that are no numbers")
        return hash(self._number())

    def __str__(self) -> str:
        return str(self._shown()) if stands_for_plain(self) else repr(self)

    def __format__(self, spec: str) -> str:
        return format(self._shown(), spec) if stands_for_plain(self) else repr(self)

    def _shown(self) -> Any:
        """The number, which decides nothing where it stands in a message."""
        return self.node.meta["example"] if is_in_message() else self._number()

    def _number(self) -> Any:
        return self.tracer.fixed(self.node, None, "a number")

    def __round__(self, digits: Any = None) -> Any:
        return record(round, (self, digits))

    def __ceil__(self) -> Any:
        return record(math.ceil, (self,))

    def __floor__(self) -> Any:
        return record(math.floor, (self,))

    def __trunc__(self) -> Any:
        return record(math.trunc, (self,))

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __rdivmod__(self, other: Any) -> Any:
        return other // self, other % self


class ExampleProxy(_Known, fx.Proxy):
    __array_ufunc__ = None  # `np.float32(2) * x` asks the proxy, as it would ask a tensor

    def __mul__(self, other: Any) -> Any:  # a number and a list: the list, repeated
        return int(self) * other if isinstance(other, list) else record(operator.mul, (self, other))

    def __rmul__(self, other: Any) -> Any:
        return other * int(self) if isinstance(other, list) else record(operator.mul, (other, self))

    # Without these `y += x` would be `y = y + x`, and other names of y would keep the old numbers.
    def __iadd__(self, other: Any) -> Any:
        return self._assign(operator.iadd, operator.add, other)

    def __isub__(self, other: Any) -> Any:
        return self._assign(operator.isub, operator.sub, other)

    def __imul__(self, other: Any) -> Any:
        return self._assign(operator.imul, operator.mul, other)

    def __itruediv__(self, other: Any) -> Any:
        return self._assign(operator.itruediv, operator.truediv, other)

    def _assign(
        self, in_place: Callable[[Any, Any], Any], op: Callable[[Any, Any], Any], other: Any
    ) -> Any:
        is_tensor = isinstance(self.node.meta.get("example"), torch.Tensor)  # numbers never change
        target = in_place if is_tensor else op
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    def __getitem__(self, index: Any) -> Any:
        """None among several results, such as weights that attention does not return, is None; a
        slice of several results is a tuple of them."""
        parts = self.node.meta.get("example")
        if isinstance(index, slice) and isinstance(parts, (list, tuple)) and not is_plain(parts):
            count = self.tracer.length(self.node, "a slice")
            return tuple(self[i] for i in range(count)[index])
        if isinstance(parts, (list, tuple)) and isinstance(index, int):
            known = -len(parts) <= index < len(parts)
            if known and parts[index] is None:
                return None
        return self.tracer.create_proxy(
            "call_function", operator.getitem, (self, by_position(index)), {}
        )

    def __setitem__(self, places: Any, values: Any) -> None:
        if isinstance(places, tuple):
            places = as_lists(by_position(places))
        if isinstance(values, fx.Proxy) and is_read_and_written(values.node, self.node, places):
            self.tracer.examples.evaluate(values.node)
        self.tracer.create_proxy("call_function", assign, (self, places, values), {})

    def __getattr__(self, name: str) -> Any:
        """A named part of several results (`x.max(1).values`) is the part by its number."""
        parts = self.node.meta.get("example")
        if isinstance(parts, tuple) and (part := getattr(parts, name, None)) is not None:
            for i, other in enumerate(parts):
                if other is part:
                    return self[i]
        if name == "dtype" and isinstance(parts, torch.Tensor):  # no input changes it
            return parts.dtype
        if name == "requires_grad" and isinstance(parts, torch.Tensor):  # a choice of how to train
            return False
        if name == "mT":  # an attribute by name, a transposition by what it does
            return self.transpose(-2, -1)
        return _Attribute(self, name)


class _Attribute(_Known, Attribute):
    def __getattr__(self, name: str) -> Any:
        known = getattr(self.root.node.meta.get("example"), self.attr, None)
        if isinstance(known, torch.device):  # a name or number of it is what Python code asks for
            return getattr(known, name)
        return _Attribute(self, name)


@contextlib.contextmanager
def following_inputs(root: nn.Module, wrapped: Sequence[Callable[..., Any]] = ()) -> Iterator[None]:
    """Let the model's code call functions that know proxies, for a while: `int`, `min`,
    `isinstance` and the like in the files of the model, and torch's functions that take sizes.

    TorchScript functions, which know no proxies, run as the Python functions they were made of.

    wrapped: functions that are recorded as one call, wherever the files call them.

    A `__class__` that says torch.Tensor would do for isinstance in Python, but torch's C code
    believes it and crashes."""
    made = torch_functions()
    files = list(_module_globals(root))
    changed: list[tuple[dict[str, Any], str, Any]] = []

    def change(file: dict[str, Any], name: str, new: Any) -> None:
        changed.append((file, name, file.get(name, _ABSENT)))
        file[name] = new

    for file in files:
        for name, new in BUILTINS.items():
            if name not in file and not _compared(file, name):
                change(file, name, new)
        for name, old, new in [(n, *made[n]) for n in made]:
            if file.get(name) is old:  # from torch import zeros
                change(file, name, new)
    for name, (_, new) in made.items():
        change(vars(torch), name, new)
    methods = tensor_methods()
    replaced = {name: vars(torch.Tensor).get(name, _ABSENT) for name in methods}
    for name, method in methods.items():
        setattr(torch.Tensor, name, method)
    scripted: Any = torch.jit.ScriptFunction
    call_script = scripted.__call__
    scripted.__call__ = functools.partialmethod(_call_scripted, call_script)
    for function in wrapped:
        home = sys.modules.get(getattr(function, "__module__", None) or "")
        homes = [vars(home)] if home and not any(vars(home) is file for file in files) else []
        for file in (*files, *homes):
            for name in [name for name, value in file.items() if value is function]:
                change(file, name, as_one_call(function))
    try:
        yield
    finally:
        scripted.__call__ = call_script
        for name, before in replaced.items():
            if before is _ABSENT:
                delattr(torch.Tensor, name)  # which uncovers that of its base
            else:
                setattr(torch.Tensor, name, before)
        for file, name, old in reversed(changed):
            if old is _ABSENT:
                del file[name]
            else:
                file[name] = old


_ABSENT = object()


def _python_of(value: Any) -> Callable[..., Any] | None:
    """The Python function that a TorchScript function was made of; None for anything else."""
    if not isinstance(value, torch.jit.ScriptFunction):
        return None
    return getattr(value, "_torchdynamo_inline", None)


def _call_scripted(function: Any, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a TorchScript function, in Python where an argument holds a proxy."""
    python = _python_of(function)
    leaves = pytree.tree_leaves((args, kwargs))
    if python is not None and any(isinstance(leaf, fx.Proxy) for leaf in leaves):
        return python(*args, **kwargs)
    return call(function, *args, **kwargs)


def _module_globals(root: nn.Module) -> Iterator[dict[str, Any]]:
    """Yield the globals of each Python module that defines a class of the model, or that one of
    these modules imports or has a function from."""
    waiting = [base.__module__ for m in root.modules() for base in type(m).__mro__]
    visited: set[str] = set()
    direct = set(waiting)
    while waiting:
        name = waiting.pop()
        package = name.partition(".")[0]
        if name in visited or package in _FOREIGN or name not in sys.modules:
            continue
        visited.add(name)
        names = vars(sys.modules[name])
        yield names
        if name in direct:
            functions = [_python_of(v) or v for v in list(names.values())]
            waiting += [v.__module__ for v in functions if inspect.isfunction(v)]
            waiting += [v.__name__ for v in list(names.values()) if inspect.ismodule(v)]


#: Packages whose files are never changed.
_FOREIGN = {"torch", "numpy", "qatspec", *sys.stdlib_module_names}


@functools.cache
def _comparisons(path: str) -> frozenset[str]:
    """The builtins that a file compares by identity: `type(x) is int`."""
    text = "".join(linecache.getlines(path))
    return frozenset(re.findall(r"\bis\s+(?:not\s+)?(int|float)\b", text))


def _compared(file: dict[str, Any], name: str) -> bool:
    return name in _comparisons(file.get("__file__") or "")
