"""How far the fast ONNX form of a Program is from it, layer by layer.

Each layer is judged by itself: the Program computes it from the integers that onnxruntime gave for
the layers before, and the result is held to onnxruntime's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qatspec.export.converted import rounded_values, to_onnx
from qatspec.export.runner import open_session
from qatspec.process.scratch import scratch_folder
from qatspec.program import Program
from qatspec.program.executor import Executor


@dataclass(slots=True)
class LayerExactness:
    """Integers of one layer that were compared, those that are equal, the largest distance."""

    compared: int = 0
    equal: int = 0
    max_lsb: int = 0

    def add(self, mine: np.ndarray, theirs: np.ndarray) -> None:
        """Add one result to the counts. mine, theirs: integers of one shape."""
        distance = np.abs(mine.astype(np.int64) - theirs)
        self.compared += distance.size
        self.equal += int((distance == 0).sum())
        self.max_lsb = max(self.max_lsb, int(distance.max(initial=0)))

    @property
    def share(self) -> float:
        """The share of equal integers."""
        return self.equal / self.compared if self.compared else 1.0


def layer_exactness(
    program: Program, inputs: Sequence[Sequence[np.ndarray]]
) -> dict[str, LayerExactness]:
    """Return how far each result that is rounded to 8 bits is from the Program's.

    program  the Program.
    inputs   integers of its ports, one list for each run.

    Returns a record for each layer, by the name of its value. Raises DiagnosticError QS723 without
    onnxruntime.
    """
    with scratch_folder() as folder:
        to_onnx(program, folder / "layers.onnx", exact=False, layers=True)
        session = open_session((folder / "layers.onnx").read_bytes(), 0)
    executor, names = Executor(program), rounded_values(program)
    found = {name: LayerExactness() for name in names}
    for ints in inputs:
        feeds = {port.name: x for port, x in zip(session.get_inputs(), ints, strict=True)}
        results: list[Any] = session.run(None, feeds)
        theirs = dict(zip(names, results[len(program.outputs) :], strict=True))

        def watch(name: str, mine: Tensor, theirs: dict[str, Any] = theirs) -> Tensor:
            if name not in theirs:
                return mine
            found[name].add(mine.numpy(), theirs[name])
            return torch.from_numpy(theirs[name]).to(mine.dtype)

        executor.run(ints, watch)
    return found
