"""Item assignment, x[places] = values, as one recorded op that writes in place."""

from __future__ import annotations

import operator
from typing import Any

from torch import Tensor, fx

#: Operators that write in place -> those that give a new tensor.
NEW_TENSORS: dict[Any, Any] = {
    operator.iadd: operator.add,
    operator.isub: operator.sub,
    operator.imul: operator.mul,
    operator.itruediv: operator.truediv,
}


def assign(x: Tensor, places: Any, values: Any) -> Tensor:
    """Set x[places] = values in place. Returns x."""
    x[places] = values
    return x


def replaced(x: Tensor, places: Any, values: Any) -> Tensor:
    """Return a copy of x with `values` at `places`."""
    return assign(x.clone(), places, values)


def is_read_and_written(value: fx.Node, x: fx.Node, places: Any) -> bool:
    """Return whether `value` is what Python computes first for `x[places] += y`: an op that changes
    x[places] in place. It then becomes the op that gives a new tensor, which is assigned."""
    new = NEW_TENSORS.get(value.target)
    read = value.args[0] if value.args else None
    if new is None or not isinstance(read, fx.Node) or read.target is not operator.getitem:
        return False
    if read.args[0] is not x or repr(read.args[1]) != repr(places):
        return False
    value.target = new
    return True
