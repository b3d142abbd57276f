"""The fast executor: a Program as a list of torch's kernels, exact by construction
(`qatspec.kinds.exact`), equal to the interpreter."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from qatspec.ir import STORAGE, Op, check_inputs
from qatspec.kinds import KINDS, Trait, has, ranges
from qatspec.kinds.exact import ExactDtypes, Step, exact_kernels
from qatspec.program.fused import requantized
from qatspec.program.model import Program
from qatspec.program.rows import Ops, chain

#: (name of an op's result, its integers in a float tensor) -> what the ops behind it are given.
#: Either tensor is only valid until it returns: the op behind may write its result there.
Watch = Callable[[str, Tensor], Tensor]


class _Unit(NamedTuple):
    """A step with the names of its operands, constants left out, and of its result."""

    step: Step
    operands: tuple[str, ...]
    output: str


class Executor:
    """A Program made ready to run: weights as tensors, one closure an op or for two ops that one
    kernel computes, values freed early."""

    def __init__(self, program: Program) -> None:
        self.inputs, self.outputs = program.inputs, program.outputs
        self._program = program
        self._read_once = _accumulators_read_once(program)
        self._exact = ExactDtypes(program, ranges(program), self._read_once)

    @cached_property
    def _single(self) -> list[tuple[_Unit, list[str]]]:
        """Every op as a step of its own."""
        return self._with_ends([self._unit(op) for op in self._program.ops])

    @cached_property
    def _fused(self) -> list[tuple[_Unit, list[str]]]:
        """Sums of products in one step with their requantization, where that is exact."""
        fused, products = [], {}
        for op in self._program.ops:
            if op.output in self._read_once:
                products[op.output] = op
        joined = self._chains()
        for op in self._program.ops:
            if op.kind != "requant" or op.output in joined:
                continue
            for name in op.inputs:
                product = products.get(name)
                if product and (step := requantized(self._exact, product, op)) is not None:
                    others = (other for other in self._live(op) if other != name)
                    unit = _Unit(step, (*self._live(product), *others), op.output)
                    joined |= {op.output: unit, name: unit}
                    break
        for op in self._program.ops:
            one = joined.get(op.output) or self._unit(op)
            if one.output == op.output:
                fused.append(one)
        return self._with_ends(fused)

    def _chains(self) -> dict[str, _Unit]:
        """Every result of a chain over rows -> its step, which is done where the last one is."""
        makers = {op.output: op for op in self._program.ops}
        ops, joined = Ops(makers, _readers(self._program)), dict[str, _Unit]()
        for op in self._program.ops:
            if made := chain(self._exact, ops, op):
                unit = _Unit(made.step, made.operands, op.output)
                joined |= dict.fromkeys((op.output, *made.covered), unit)
        return joined

    def _unit(self, op: Op) -> _Unit:
        return _Unit(KINDS[op.kind].step(self._exact, op), self._live(op), op.output)

    def _live(self, op: Op) -> tuple[str, ...]:
        return tuple(name for name in op.inputs if name not in self._program.consts)

    def _with_ends(self, units: list[_Unit]) -> list[tuple[_Unit, list[str]]]:
        """Each unit with the values that nothing behind it reads."""
        last = {name: i for i, unit in enumerate(units) for name in unit.operands}
        for port in self.outputs:
            last.pop(port.name, None)
        ends: list[list[str]] = [[] for _ in units]
        for name, i in last.items():
            ends[i].append(name)
        return list(zip(units, ends, strict=True))

    def run(self, ints: Sequence[np.ndarray], watch: Watch | None = None) -> list[np.ndarray]:
        """Compute the outputs in integers, equal to `interpret`. Raises DiagnosticError QS712.

        watch: sees each op's result, and may put other integers of the same range in its place."""
        values: dict[str, Tensor] = {}
        arrays = check_inputs(self._program, ints)
        with exact_kernels():
            for port, array in zip(self.inputs, arrays, strict=True):
                tensor = torch.from_numpy(np.ascontiguousarray(array))
                values[port.name] = tensor.to(self._exact.holder(port.name))
            for unit, ends in self._fused if watch is None else self._single:
                result = unit.step(*[values[name] for name in unit.operands])
                if watch is not None:
                    result = self._watched(watch, unit.output, result)
                values[unit.output] = result
                for name in ends:
                    del values[name]
            return [
                values[port.name].numpy().astype(STORAGE[port.dtype], order="C")
                for port in self.outputs
            ]

    def _watched(self, watch: Watch, name: str, result: Tensor) -> Tensor:
        shown = watch(name, result.to(self._exact.float_dtype(name)))
        return shown.to(self._exact.holder(name))


def _readers(program: Program) -> Counter[str]:
    """How many ops read a value, outputs counted."""
    uses = Counter(name for op in program.ops for name in op.inputs)
    uses.update(port.name for port in program.outputs)
    return uses


def _accumulators_read_once(program: Program) -> frozenset[str]:
    """Sums of products that one op reads, once: nothing else sees their memory."""
    uses = _readers(program)
    products = (op for op in program.ops if has(op, Trait.WEIGHTED) or op.kind == "matmul")
    accumulators = (op.output for op in products)
    return frozenset(name for name in accumulators if uses[name] == 1)
