"""What stands for a tensor while tracing: fx's proxies, answering Python's questions from the
example values of their nodes."""

from __future__ import annotations

import contextlib
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import fx, nn
from torch.fx.proxy import Attribute


class _Known:
    """Python's questions that a proxy answers from its example value."""

    node: fx.Node
    tracer: Any

    def __len__(self) -> int:
        return len(self.tracer.known(self.node, "len()"))

    def __index__(self) -> int:
        return int(self.tracer.known(self.node, "an integer"))

    def __int__(self) -> int:
        return int(self.tracer.known(self.node, "an integer"))

    def __float__(self) -> float:
        return float(self.tracer.known(self.node, "a number"))


class ExampleProxy(_Known, fx.Proxy):
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

    def __getattr__(self, name: str) -> Any:
        """A named part of several results (`x.max(1).values`) is the part by its number."""
        parts = self.node.meta.get("example")
        if isinstance(parts, tuple) and (part := getattr(parts, name, None)) is not None:
            for i, other in enumerate(parts):
                if other is part:
                    return self[i]  # type: ignore[index]
        if name == "mT":  # an attribute by name, a transposition by what it does
            return self.transpose(-2, -1)
        return _Attribute(self, name)


class _Attribute(_Known, Attribute):
    def __getattr__(self, name: str) -> _Attribute:
        return _Attribute(self, name)


def _isinstance(value: Any, classes: Any) -> bool:
    """isinstance, for which the stand-in of a tensor is a tensor."""
    if not isinstance(value, ExampleProxy):
        return isinstance(value, classes)
    asked = classes if isinstance(classes, tuple) else (classes,)
    is_tensor = isinstance(value.node.meta.get("example"), torch.Tensor)
    return (torch.Tensor in asked and is_tensor) or isinstance(value, classes)


@contextlib.contextmanager
def tensors_are_tensors(root: nn.Module) -> Iterator[None]:
    """Give the files of the model's classes `_isinstance` for a while. A `__class__` that says
    torch.Tensor would do for Python, but torch's C code believes it and crashes."""
    names = dict.fromkeys(type(m).__module__ for m in root.modules())
    files = [vars(sys.modules[n]) for n in names if n in sys.modules and not n.startswith("torch.")]
    files = [file for file in files if "isinstance" not in file]
    for file in files:
        file["isinstance"] = _isinstance
    try:
        yield
    finally:
        for file in files:
            del file["isinstance"]
