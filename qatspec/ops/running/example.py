"""An example of the op, and the same function in float64."""

from __future__ import annotations

from qatspec.ops.examples import function
from qatspec.types import Example


def examples() -> tuple[Example, ...]:
    return (function("cumsum", lambda x: x.cumsum(1), lambda x: x.cumsum(1)),)
