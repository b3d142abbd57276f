"""What stands for the parts of a model while it is lowered, and how lowering refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qatspec.diag import QatspecError
from qatspec.ir import DType


class Unlowerable(QatspecError):
    """A node has no integer form: a diagnostic code, the reason, and the way out."""

    def __init__(self, code: str, reason: str, help_: str | None = None) -> None:
        super().__init__(reason)
        self.code, self.reason, self.help = code, reason, help_


class Skipped(QatspecError):
    """An operand failed already; its own diagnostic says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """The quantization that closes a node: real scale and integer dtype."""

    scale: float
    dtype: DType


@dataclass(frozen=True, slots=True)
class Constant:
    """What a node computes from parameters alone: a tensor (a list for ops with several results);
    target: the grid that a fake-quant put it on."""

    value: Any
    target: Target | None = None


@dataclass(frozen=True, slots=True)
class RealInput:
    """An input of the model that no fake-quant has taken in yet."""

    name: str
