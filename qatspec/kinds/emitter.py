"""What the writers of single integer ops share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from qatspec.ir import STORAGE, Op, ProgramData
from qatspec.onnxgraph import GraphWriter


class Emitter:
    """Writes one op after another; `names` maps values of the program to ONNX results."""

    def __init__(self, program: ProgramData, writer: GraphWriter, opset: int) -> None:
        self.program, self.graph, self.opset = program, writer, opset
        self.names: dict[str, str] = {}

    def x(self, op: Op, i: int = 0) -> str:
        """The ONNX name of an operand."""
        return self.names[op.inputs[i]]

    def array(self, op: Op, i: int) -> np.ndarray:
        """A constant operand."""
        return self.program.consts[op.inputs[i]]

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value, without the batch."""
        return self.program.values[name].shape

    def dtype(self, name: str) -> str:
        """The dtype of a value."""
        return self.program.values[name].dtype

    def through(
        self, op: Op, dtypes: tuple[str, ...], wide: type, write: Callable[[str], str]
    ) -> str:
        """`write` on the operand itself where the op runs on its dtype in onnxruntime, else on a
        cast of it to `wide` and back (exact: `wide` holds every such integer)."""
        dtype = self.dtype(op.inputs[0])
        if dtype in dtypes:
            return write(self.x(op))
        result = write(self.graph.cast(self.x(op), wide, f"{op.output}.wide"))
        return self.graph.cast(result, STORAGE[self.program.values[op.output].dtype], op.output)
