"""Every kind of integer op, one line a family; each family is a folder.

Whoever checks, bounds, runs, writes or compiles a Program asks this table. The definition that
everything is compared with is written separately, in `qatspec.referee`.
"""

from __future__ import annotations

from collections.abc import Sequence

from qatspec.ir import RANGE, Interval, Op, ProgramData, Value, interval
from qatspec.kinds.attributes import (
    BYTES as BYTES,
    FORMS as FORMS,
    LIMIT as LIMIT,
    MAX_SHIFT as MAX_SHIFT,
    ROUNDINGS as ROUNDINGS,
    SMALL as SMALL,
    Malformed as Malformed,
)
from qatspec.kinds.elementwise import kind as elementwise
from qatspec.kinds.moves import kind as moves
from qatspec.kinds.norms import kind as norms
from qatspec.kinds.pools import kind as pools
from qatspec.kinds.products import kind as products
from qatspec.kinds.record import Consts, Kind as Kind, Result, Trait as Trait
from qatspec.kinds.reductions import kind as reductions
from qatspec.kinds.requantization import kind as requantization
from qatspec.kinds.resizes import kind as resizes
from qatspec.kinds.tables import kind as tables

_FAMILIES = (
    products, requantization, elementwise, pools, reductions, resizes, moves, tables, norms,
)  # fmt: skip

KINDS: dict[str, Kind] = {kind.name: kind for family in _FAMILIES for kind in family.KINDS}


def has(op: Op, trait: Trait) -> bool:
    """Return whether the op's kind has the trait; an unknown kind has none."""
    return op.kind in KINDS and trait in KINDS[op.kind].traits


def infer(op: Op, inputs: Sequence[Value], consts: Consts) -> Result:
    """The (dtype, shape) of the op's result. Raises Malformed, whatever the op holds."""
    if op.kind not in KINDS:
        raise Malformed(f"unknown kind `{op.kind}`")
    return KINDS[op.kind].check(op, list(inputs), consts)


def op_range(op: Op, inputs: list[Interval], shape: tuple[int, ...], consts: Consts) -> Interval:
    """The interval of a well-formed op's result. shape: of the first operand.

    Raises Overflow where the result may leave its dtype or a requantization 2^53.
    """
    return KINDS[op.kind].bounds(op, inputs, shape, consts)


def ranges(program: ProgramData) -> dict[str, Interval]:
    """The interval of every value of a well-formed program, proven from its constants.

    It carries every claim of exactness: int32 accumulators that cannot overflow, requantization
    below 2^53, and the executor's choice between float32 and float64. Raises Overflow.
    """
    known = {port.name: interval(*RANGE[port.dtype]) for port in program.inputs}
    for name, array in program.consts.items():
        known[name] = interval(int(array.min()), int(array.max()))
    for op in program.ops:
        shape = program.values[op.inputs[0]].shape
        known[op.output] = op_range(op, [known[i] for i in op.inputs], shape, program.consts)
    return known
