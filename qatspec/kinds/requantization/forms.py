"""The forms of a requantization: how it rounds, and what its constants may be.

single       clamp(round(sum_i xi * mi / 2^shift), low, high): one rounding, by `rounding`.

double_high  the reference kernels of TFLite (gemmlowp). With 31-bit multipliers,

                 high(x, m) = floor((x * m + 2^30) / 2^31)
                 scaled(x, m, s) = round_half_away(high(x * 2^max(-s, 0), m) / 2^max(s, 0))

             one term gives scaled(x1 * 2^lift, m1, shift), several give
             scaled(sum_i scaled(xi * 2^lift, mi, term_shifts[i]), total, shift); then the clamp.

float32      XNNPACK. One term: clamp(round_half_even(float32(x1) * float32(m1 / 2^shift))), the
             conversion and the product each rounded to the nearest float32, ties to even.

What bounds them: single, 2^53 (`requant_bound`); double_high, int32 in front of each multiplication
(`demand_int32`); float32 needs no bound, as every int32 and every product of one is a finite
float32.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from qatspec.ir import Interval, Op, Overflow
from qatspec.kinds.attributes import (
    FORMS,
    MAX_SHIFT,
    Attribute,
    Int,
    Ints,
    Malformed,
    Optional,
    Word,
)

#: A multiplier of double_high, and the integers of a float32, are below these.
HIGH, FLOAT32 = 1 << 31, 1 << 24
#: Right shifts: of double_high, and of a float32 that is not subnormal.
MOST_HIGH, MOST_FLOAT32 = 31, 149
#: Attributes that ops of the form single do not have.
OF_FORMS: Mapping[str, Attribute] = {
    "form": Optional(Word(FORMS)),
    "lift": Optional(Int(0, 30)),
    "term_shifts": Optional(Ints(None, 0, MOST_HIGH)),
    "total": Optional(Int(0, HIGH - 1)),
}
_SHIFTS = {
    "single": (0, MAX_SHIFT),
    "double_high": (-30, MOST_HIGH),
    "float32": (0, MOST_FLOAT32),
}
_ROUNDING = {"double_high": "half_up", "float32": "half_even"}


def form_of(op: Op) -> str:
    """The form of a requant op; absent, it is single."""
    return str(op.attrs.get("form", "single"))


def check_form(op: Op, constants: Sequence[np.ndarray]) -> None:
    """Hold multipliers, shift (the last constant) and attributes against the op's form. Raises
    Malformed."""
    form, (*multipliers, shift) = form_of(op), constants
    low, high = _SHIFTS[form]
    if shift.min() < low or shift.max() > high:
        raise Malformed(f"the shift must be in [{low}, {high}]")
    if form == "single":
        return
    if op.attrs["rounding"] != _ROUNDING[form]:
        raise Malformed(f"attribute `rounding` must be {_ROUNDING[form]} in the form {form}")
    if form == "float32":
        if len(multipliers) > 1:
            raise Malformed("the form float32 has one term")
        if np.abs(multipliers[0]).max() >= FLOAT32:
            raise Malformed("a multiplier of the form float32 has 24 bits")
        real = np.abs(multipliers[0]) * np.exp2(-shift.astype(np.float64))
        if ((real > 0) & (real < 2.0**-126)).any():
            raise Malformed("a multiplier of the form float32 is subnormal")
        return
    if any(m.min() < 0 or m.max() >= HIGH for m in multipliers):
        raise Malformed("a multiplier of the form double_high must be in [0, 2^31)")
    shifts = op.attrs.get("term_shifts", ()) if "total" in op.attrs else ()
    if len(multipliers) > 1 and len(shifts) != len(multipliers):
        raise Malformed("several terms need `total` and a shift each in `term_shifts`")


def demand_int32(op: Op, terms: Sequence[Interval], constants: Sequence[np.ndarray]) -> None:
    """Raise Overflow where a number in front of a multiplication of the form double_high may leave
    int32."""
    *multipliers, shift = constants
    left = 2.0 ** (op.attrs.get("lift", 0) + np.maximum(-shift, 0))
    if len(terms) == 1:
        _demand(terms[0].magnitude * left.max())
        return
    lift, total = 2.0 ** op.attrs.get("lift", 0), 0.0
    for x, m, shift_of_term in zip(terms, multipliers, op.attrs["term_shifts"], strict=True):
        reach = x.magnitude * lift
        _demand(reach)
        total += (reach * float(m.max()) / HIGH + 1) / 2.0**shift_of_term + 1
    _demand(total * 2.0 ** float(np.maximum(-shift, 0).max()))


def _demand(reach: float) -> None:
    if reach >= HIGH:
        raise Overflow(f"a number to be multiplied may reach {reach:.4g}, int32 holds +-2^31")
