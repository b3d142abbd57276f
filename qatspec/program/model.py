"""Program: SSA of integers, the exact arithmetic of the chip, which runs and is a file."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from qatspec.ir import ProgramData

if TYPE_CHECKING:
    from qatspec.program.executor import Executor


@dataclass(frozen=True, kw_only=True, eq=False)
class Program(ProgramData):
    """The integer model, and what can be done with it.

    name, inputs and outputs (ports), tree (structure of the outputs), ops in order, values and
    consts (integer arrays) by name; march: the one that it was made for, None: generic;
    arithmetic: how it rounds; image: how a picture becomes its input.
    """

    def run(self, *ints: np.ndarray) -> list[np.ndarray]:
        """Run on the fast executor, which equals `interpret` integer for integer.

        ints: an array (N, ...) for each input port, in its dtype. Returns an array for each output
        port. Raises DiagnosticError QS712 on arrays that do not fit.
        """
        return self._executor.run(ints)

    @cached_property
    def _executor(self) -> Executor:
        """Built at the first run. It refers to the program, so only the program may own it."""
        from qatspec.program.executor import Executor

        return Executor(self)

    def to_bytes(self) -> bytes:
        """Return the program's file; equal programs give equal bytes."""
        from qatspec.program.serde import to_bytes

        return to_bytes(self)

    @classmethod
    def from_bytes(cls, data: bytes) -> Program:
        """Return the program whose `to_bytes` gave `data`, verified. Raises Damaged, or
        DiagnosticError (QS711)."""
        from qatspec.program.serde import from_bytes

        return from_bytes(data)
