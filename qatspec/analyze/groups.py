"""Layers of a Program: the ops between the integers of a layer and the integers that it reads."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import prod

from qatspec.ir import Interval, Op
from qatspec.kinds import Trait, has
from qatspec.program import Program


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """The ops that compute a value, last first, and the values that they read, in order."""

    ops: tuple[Op, ...]
    reads: tuple[str, ...]


def group_of(program: Program, value: str, others: Collection[str]) -> LayerGroup:
    """The ops behind `value` up to the values in `others` (and the input ports)."""
    makers = {op.output: op for op in program.ops}
    ops: dict[str, Op] = {}
    reads: dict[str, None] = {}
    waiting = [value]
    while waiting:
        name = waiting.pop(0)
        if name in program.consts or name in ops:
            continue
        if name not in makers or (name in others and name != value):
            if name != value:
                reads[name] = None
            continue
        ops[name] = makers[name]
        waiting += makers[name].inputs
    return LayerGroup(tuple(ops.values()), tuple(reads))


def step_bound(
    group: LayerGroup, program: Program, ranges: Mapping[str, Interval], max_lsb: Mapping[str, int]
) -> int:
    """Return by how many steps fake-quant and integers may differ given equal inputs.

    (Rule: one step of accuracy.)

    Small integers: one, or what the march states for its own arithmetic (`max_lsb` by kind of op).
    int32 tails: one for the rounded bias, and the float32 summation of the fake-quant model, whose
    error is below sum |x||w| * K * 2^-24 for K products (Higham 2002, Accuracy and Stability of
    Numerical Algorithms, section 3.1).
    """
    result = group.ops[0].output if group.ops else ""
    if not result or program.values[result].dtype != "int32":
        return max([1, *(max_lsb.get(op.kind, 1) for op in group.ops)])
    bound = 1.0
    for op in group.ops:
        if has(op, Trait.WEIGHTED):
            shape = program.values[op.inputs[1]].shape
            inputs = shape[0] if has(op, Trait.INPUTS_FIRST) else shape[1]
            terms = inputs * prod(shape[2:])
            bound += ranges[op.output].magnitude * terms * 2.0**-24
    return math.ceil(bound)
