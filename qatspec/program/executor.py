"""The fast executor: a Program as a list of torch's kernels, exact by construction
(`qatspec.kinds.exact`), equal to the interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import STORAGE, check_inputs
from qatspec.kinds import KINDS, Trait, has, ranges
from qatspec.kinds.exact import ExactDtypes, Step, exact_kernels
from qatspec.program.model import Program

#: (name of an op's result, its integers in a float tensor) -> what the ops behind it are given.
#: Either tensor is only valid until it returns: the op behind may write its result there.
Watch = Callable[[str, Tensor], Tensor]


class Executor:
    """A Program made ready to run: weights as tensors, one closure an op, values freed early."""

    def __init__(self, program: Program) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self._program = program
        self._exact = ExactDtypes(program, ranges(program), _accumulators_read_once(program))
        last = {name: i for i, op in enumerate(program.ops) for name in op.inputs}
        kept = {port.name for port in program.outputs}
        self._steps: list[tuple[Step, tuple[str, ...], str, tuple[str, ...]]] = []
        for i, op in enumerate(program.ops):
            live = tuple(name for name in op.inputs if name not in program.consts)
            done = tuple(dict.fromkeys(n for n in live if last[n] == i and n not in kept))
            self._steps.append((KINDS[op.kind].step(self._exact, op), live, op.output, done))

    def run(self, ints: Sequence[np.ndarray], watch: Watch | None = None) -> list[np.ndarray]:
        """Compute the outputs in integers, equal to `interpret`. Raises DiagnosticError QS712.

        watch: sees each op's result, and may put other integers of the same range in its place."""
        values: dict[str, Tensor] = {}
        arrays = check_inputs(self._program, ints)
        with exact_kernels():
            for port, array in zip(self.inputs, arrays, strict=True):
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                values[port.name] = tensor.to(self._exact.holder(port.name))
            for step, operands, output, done in self._steps:
                result = step(*[values[name] for name in operands])
                values[output] = result if watch is None else self._watched(watch, output, result)
                for name in done:
                    del values[name]
            return [
                values[port.name].numpy().astype(STORAGE[port.dtype], order="C")
                for port in self.outputs
            ]

    def _watched(self, watch: Watch, name: str, result: Tensor) -> Tensor:
        shown = watch(name, result.to(self._exact.float_dtype(name)))
        return shown.to(self._exact.holder(name))


def _accumulators_read_once(program: Program) -> frozenset[str]:
    """Results of weighted ops that one op reads, once: nothing else sees their memory."""
    uses = Counter(name for op in program.ops for name in op.inputs)
    uses.update(port.name for port in program.outputs)
    accumulators = (op.output for op in program.ops if has(op, Trait.WEIGHTED))
    return frozenset(name for name in accumulators if uses[name] == 1)
