"""Examples of the ops, and the same functions in float64."""

from __future__ import annotations

from torch import nn

from qatspec.ops.examples import Reals, function, module
from qatspec.quant.guarded import GuardedOperand
from qatspec.types import Example


def _same(x: Reals) -> Reals:
    return x


def examples() -> tuple[Example, ...]:
    return (
        module("dropout", nn.Dropout, _same),
        function("identity", lambda x: x.clone(), _same),
        function("contiguous", lambda x: x.contiguous(), _same),
        module("guarded", GuardedOperand, _same),
    )
