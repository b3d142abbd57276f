"""Chains of ops over rows as one loop (qatspec.kinds.loops): a layer norm with its requantization,
and a softmax from the sums of its product to its bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from qatspec.ir import Op
from qatspec.kinds import loops
from qatspec.kinds.elementwise.step import inverse_of_quotient
from qatspec.kinds.exact import BYTES, ExactDtypes, Step
from qatspec.kinds.norms.step import has_near_inverse
from qatspec.kinds.products.step import int32_sums
from qatspec.kinds.requantization.forms import form_of
from qatspec.kinds.requantization.step import Line, line_of


class Chain(NamedTuple):
    """Ops as one step. operands: names that it takes. covered: results that nothing else reads."""

    step: Step
    operands: tuple[str, ...]
    covered: tuple[str, ...]


class Ops(NamedTuple):
    """Who makes and who reads a value. makers: name -> op. readers: name -> how many, outputs
    counted."""

    makers: Mapping[str, Op]
    readers: Mapping[str, int]

    def maker(self, name: str, kind: str, readers: int = 1) -> Op | None:
        """The op of that kind that gives `name`, if so many read it."""
        op = self.makers.get(name)
        return op if op and op.kind == kind and self.readers[name] == readers else None


def chain(exact: ExactDtypes, ops: Ops, op: Op) -> Chain | None:
    """The chain that ends in `op`, where there is one and its loop saves time."""
    build = _ENDS.get(op.kind)
    if build is None or exact.holder(op.output) not in BYTES:
        return None
    if prod(exact.shape(op.output)) < loops.LEAST or not loops.installed():
        return None
    return build(exact, ops, op)


def _norm(exact: ExactDtypes, ops: Ops, op: Op) -> Chain | None:
    affine = ops.maker(op.inputs[0], "affine")
    standard = affine and ops.maker(affine.inputs[0], "standardize")
    if not affine or not standard or len(op.inputs) != 3 or form_of(op) != "single":
        return None
    shape, a = exact.shape(standard.inputs[0]), standard.attrs
    last = len(shape)
    if (tuple(a["axes"]), affine.attrs["axis"]) != ((last,), last):
        return None
    line = line_of(exact, op)
    if (len(line.start) > 1 and op.attrs["axis"] != last) or not has_near_inverse(exact, standard):
        return None
    unit = shape[-1] << (a["bits"] + a["root_bits"])
    weight, bias = (exact.array(name).astype(np.float64) for name in affine.inputs[1:])
    slope, start = (_wide(part, shape[-1]) for part in (line.slopes[0], line.start))
    constants = (
        unit, a["epsilon"], a["root_bits"], weight, bias, slope, start,
        float(op.attrs["low"]), float(op.attrs["high"]), line.even,
    )  # fmt: skip
    step = _step(loops.standardize, constants, exact, op)
    return Chain(step, (standard.inputs[0],), (affine.output, standard.output))


def _softmax(exact: ExactDtypes, ops: Ops, op: Op) -> Chain | None:
    above = ops.maker(op.inputs[0], "exp_below_max", readers=2)
    total = ops.maker(op.inputs[1], "reduce_sum")
    if not above or not total or total.inputs[0] != above.output or len(above.inputs) != 2:
        return None
    last = len(exact.shape(op.output))
    axes = (above.attrs["axis"], *total.attrs["axes"])
    inverse = inverse_of_quotient(exact, op)
    table = exact.array(above.inputs[1])
    if axes != (last, last) or inverse is None or table.min() < 0:
        return None
    if exact.holder(above.inputs[0]) not in BYTES:
        return None
    first = _rounded_once(exact, ops, above.inputs[0])
    constants = (
        *first.constants, table.astype(np.int32), *inverse,
        float(op.attrs["low"]), float(op.attrs["high"]),
    )  # fmt: skip
    step = _step(loops.softmax, constants, exact, op)
    sums, operands = first.sums, first.operands
    both: Step = (lambda *xs: step(sums(*xs))) if sums else step
    return Chain(both, operands, (above.output, total.output, *first.covered))


#: The kind that ends a chain -> how it is made.
_ENDS = {"requant": _norm, "divide": _softmax}


class _First(NamedTuple):
    """What a softmax begins with. constants: of its requantization. sums: of its product."""

    constants: tuple[Any, ...]
    operands: tuple[str, ...]
    covered: tuple[str, ...] = ()
    sums: Step | None = None


def _rounded_once(exact: ExactDtypes, ops: Ops, name: str) -> _First:
    """The requantization that gives `name`, or none, and the product before it."""
    op = ops.maker(name, "requant")
    if op is None or len(op.inputs) != 3 or form_of(op) != "single":
        return _First((1.0, 0.0, -128.0, 255.0, False), (name,))
    line: Line = line_of(exact, op)
    if len(line.start) > 1:
        return _First((1.0, 0.0, -128.0, 255.0, False), (name,))
    limits = float(op.attrs["low"]), float(op.attrs["high"])
    constants = (float(line.slopes[0][0]), float(line.start[0]), *limits, line.even)
    product = ops.maker(op.inputs[0], "matmul")
    sums = int32_sums(exact, product) if product else None
    if product is None or sums is None:
        return _First(constants, (op.inputs[0],), (name,))
    return _First(constants, product.inputs, (name, product.output), sums)


def _wide(constant: np.ndarray, width: int) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(constant, (width,)))


def _step(
    loop: Callable[..., None], constants: tuple[Any, ...], exact: ExactDtypes, op: Op
) -> Step:
    dtype = exact.holder(op.output)

    def step(x: Tensor) -> Tensor:
        return loops.over_rows(loop, [x], constants, dtype)

    return step
