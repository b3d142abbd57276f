"""Operands during lowering: grids, constants and inputs; and the errors of lowering."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from qatspec.diag import Code, QatspecError
from qatspec.ir import DType


class Unlowerable(QatspecError):
    """A node has no integer form: a diagnostic code, the reason, and the way out. by_rule: another
    rule of the spec may change it."""

    def __init__(
        self, code: Code, reason: str, help_: str | None = None, *, by_rule: bool = True
    ) -> None:
        super().__init__(reason)
        self.code, self.reason, self.help, self.by_rule = code, reason, help_, by_rule


class FailedOperand(QatspecError):
    """A node is not lowered because an operand was not; the operand's diagnostic says why."""


@dataclass(frozen=True, slots=True)
class Grid:
    """The real numbers that a quantized tensor can hold: scale times the integers of `dtype`."""

    scale: float
    dtype: DType


#: The grid of tensors of integers, such as indices, which no fake-quant is on.
INTEGERS = Grid(1.0, "int32")


@dataclass(frozen=True, slots=True)
class Constant:
    """The value of a node that depends on parameters alone: a tensor, or a list of several.
    grid: of the fake-quant that rounded it, None without one."""

    value: Any
    grid: Grid | None = None


def levels_of(real: Any, scale: float) -> np.ndarray:
    """Real numbers as integers, rounded as a fake-quant rounds (rule: exact rounding)."""
    with np.errstate(over="ignore"):
        return np.asarray(np.rint(np.asarray(real, np.float32) / np.float32(scale)))


@dataclass(frozen=True, slots=True)
class RealInput:
    """An input of the model that no fake-quant has quantized yet."""

    name: str
