"""The arguments of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


@dataclass(frozen=True, slots=True)
class Matmul:
    """x @ other; torch.bmm and torch.mm call the second operand mat2."""

    x: Any
    other: Any = None
    mat2: Any = None

    ORDERS: ClassVar = {"torch.bmm": ("x", "mat2"), "torch.mm": ("x", "mat2")}

    @property
    def second(self) -> Any:
        return self.mat2 if self.other is None else self.other
