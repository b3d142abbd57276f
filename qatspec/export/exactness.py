"""How far what a runtime makes of a Program is from it, layer by layer.

Each layer is judged by itself: the Program computes it from the integers that the runtime gave for
the layers before, and the result is held to the runtime's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
    """How one layer's integers compare.

    compared  how many integers. equal: how many of them are the same.
    max_lsb   the largest distance of two, in steps of the grid.
    """

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


#: Integers of a Program's ports -> those of its `rounded_values`, by name.
LayerResults = Callable[[Sequence[np.ndarray]], Mapping[str, np.ndarray]]


def layer_exactness(
    program: Program,
    inputs: Sequence[Sequence[np.ndarray]],
    results: LayerResults | None = None,
) -> dict[str, LayerExactness]:
    """Return how far each result that is rounded to 8 bits is from the Program's.

    program  the Program.
    inputs   integers (N, ...) of its ports, one list for each run.
    results  what the runtime computes for one of `inputs`: its integers of each of
             `rounded_values`, by name. None: onnxruntime, of the file that
             `to_onnx(..., exact=False)` writes.

    Returns a record for each layer, by the name of its value. Raises DiagnosticError as
    `to_onnx`, and QS723 without onnxruntime.
    """
    executor, names = Executor(program), rounded_values(program)
    results = results or _in_onnxruntime(program)
    exactness = {name: LayerExactness() for name in names}
    for ints in inputs:
        theirs = results(ints)

        def watch(name: str, mine: Tensor, theirs: Mapping[str, Any] = theirs) -> Tensor:
            if name not in theirs:
                return mine
            exactness[name].add(mine.numpy(), theirs[name])
            return torch.from_numpy(theirs[name]).to(mine.dtype)

        executor.run(ints, watch)
    return exactness


def _in_onnxruntime(program: Program) -> LayerResults:
    with scratch_folder() as folder:
        to_onnx(program, folder / "layers.onnx", exact=False, layers=True)
        session = open_session((folder / "layers.onnx").read_bytes(), 0)
    names = rounded_values(program)

    def results(ints: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
        feeds = {port.name: x for port, x in zip(session.get_inputs(), ints, strict=True)}
        arrays: list[Any] = session.run(None, feeds)
        return dict(zip(names, arrays[len(program.outputs) :], strict=True))

    return results
