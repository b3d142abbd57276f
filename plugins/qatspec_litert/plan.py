"""How each kind of the Program is written."""

from __future__ import annotations

import weakref

from qatspec.api import Program
from qatspec_litert import elementwise, images, moves, products
from qatspec_litert.writer import Writer

KINDS = {
    "conv": products.deferred,
    "conv_transpose": products.deferred,
    "linear": products.deferred,
    "mul": products.deferred,
    "sum_pool": products.deferred,
    "reduce_sum": products.deferred,
    "resize_bilinear": images.check_bilinear,
    "requant": elementwise.requant,
    "clamp": elementwise.clamp,
    "lut": elementwise.lut,
    "max_pool": images.max_pool,
    "pad": images.pad,
    "resize_nearest": images.resize_nearest,
    "concat": moves.concat,
    "reshape": moves.move,
    "transpose": moves.move,
    "slice": moves.move,
    "argmax": moves.argmax,
    "reduce_max": moves.reduce_max,
}
_PLANS: weakref.WeakKeyDictionary[Program, dict[str, Writer]] = weakref.WeakKeyDictionary()


def plan(program: Program, form: str, march: str) -> Writer:
    """The Program written, or refused, op by op; kept as long as the Program is."""
    known = _PLANS.setdefault(program, {})
    if march not in known:
        known[march] = Writer(program, form, march)
        known[march].write(KINDS)
    return known[march]
