"""The forms of a requantization: executor, ONNX and referee give the integers of their definition,
written here once more number by number."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest

from qatspec.backend import Target, verdict
from qatspec.export import OnnxRunner, to_onnx
from qatspec.ir import Overflow
from qatspec.kinds import Malformed
from qatspec.program import Program, ProgramBuilder, dump, forms
from qatspec.referee import interpret, interpret_all
from qatspec.types import Arithmetic, Capabilities, OpSupport

SEEDS = range(8)


def one_op(rng, form, *, ndim=3, terms=1, dtype="int8", per_channel=True, **attrs) -> Program:
    """An input of int32 sums of all sizes (the bias of a linear layer of zeros plus an int8 input
    times a weight) and one requantization of it."""
    shape = (5, 4, 3)[-ndim:]
    builder = ProgramBuilder("form", None, Arithmetic(form=form))
    size = shape[0] if per_channel else 1
    operands = []
    for _ in range(terms):
        x = builder.input("x", "int8", shape, 1.0)
        if terms == 1 and ndim == 3:  # the accumulators of a convolution
            w = builder.const("w", "int8", rng.integers(-128, 128, (5, 5, 1, 1)))
            b = builder.const("b", "int32", rng.integers(-(2**29), 2**29, 5) >> rng.integers(0, 30))
            x = builder.emit(
                "conv", [x, w, b], name="acc", scale=1.0, stride=(1, 1), padding=(0, 0, 0, 0),
                dilation=(1, 1), groups=1,
            )  # fmt: skip
        operands.append(x)
    if form == "float32":
        ms, shift = [rng.integers(-(2**24) + 1, 2**24, size)], rng.integers(20, 60, size)
        rounding = "half_even"
    else:
        ms = [rng.integers(2**30, 2**31, size) for _ in range(terms)]
        low = -1 if dtype == "int32" or ndim < 3 else 0
        shift, rounding = rng.integers(low, 32, size), "half_up"
    constants = [*(builder.const("m", "int64", m) for m in ms), builder.const("s", "int64", shift)]
    low, high = sorted(rng.integers(-128, 128, 2).tolist())
    if dtype == "int32":
        low, high = -(2**31), 2**31 - 1
    y = builder.emit(
        "requant", [*operands, *constants], name="y", scale=1.0, dtype=dtype, axis=1, form=form,
        rounding=rounding, low=low, high=high, **attrs,
    )  # fmt: skip
    return builder.finish([y])


def half_away(value: Fraction) -> int:
    return floor(abs(value) + Fraction(1, 2)) * (1 if value >= 0 else -1)


def scaled(x: int, m: int, shift: int) -> int:
    """gemmlowp's definition: round the doubled high product half up, then half away."""
    high = floor(Fraction(x * 2 ** max(-shift, 0) * m, 2**31) + Fraction(1, 2))
    return half_away(Fraction(high, 2 ** max(shift, 0)))


def float32(value: Fraction) -> Fraction:
    """The nearest float32 of a rational number, ties to even, by rational numbers alone."""
    if value == 0:
        return value
    exponent = 0
    while abs(value) / Fraction(2) ** exponent >= 2**24:
        exponent += 1
    while abs(value) / Fraction(2) ** exponent < 2**23:
        exponent -= 1
    return round(value / Fraction(2) ** exponent) * Fraction(2) ** exponent


def defined(op, program: Program, values, place) -> int:
    terms, channel = len(op.inputs) // 2, place[1] if len(place) > 1 else 0

    def const(i: int) -> int:
        array = program.consts[op.inputs[i]]
        return int(array[channel] if array.size > 1 else array[0])

    xs = [int(values[name][place]) for name in op.inputs[:terms]]
    shift, a = const(2 * terms), op.attrs
    if a["form"] == "float32":
        factor = Fraction(const(1)) / Fraction(2) ** shift
        y = round(float32(float32(Fraction(xs[0])) * factor))
    elif terms == 1:
        y = scaled(xs[0] << a.get("lift", 0), const(1), shift)
    else:
        parts = zip(xs, range(terms, 2 * terms), a["term_shifts"], strict=True)
        y = scaled(sum(scaled(x << a["lift"], const(i), s) for x, i, s in parts), a["total"], shift)
    return min(max(y, a["low"]), a["high"])


def images(rng, program: Program) -> list[np.ndarray]:
    return [rng.integers(-128, 128, (3, *p.shape)).astype(np.int8) for p in program.inputs]


def hold(rng, program: Program, folder) -> None:
    """Every number of the op is what the definition gives, in all that run a Program."""
    xs, op = images(rng, program), program.ops[-1]
    values = interpret_all(program, *xs)
    for place in np.ndindex(*values[op.output].shape):
        assert values[op.output][place] == defined(op, program, values, place)
    (wanted,) = interpret(program, *xs)
    np.testing.assert_array_equal(program.run(*xs)[0], wanted)
    for exact in (True, False):
        to_onnx(program, folder / "x.onnx", exact=exact)
        np.testing.assert_array_equal(OnnxRunner.load(folder / "x.onnx").run(*xs)[0], wanted)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", ["double_high", "float32"])
def test_one_term(form, seed, tmp_path):
    rng = np.random.default_rng(seed)
    hold(rng, one_op(rng, form, per_channel=seed % 2 == 0), tmp_path)
    hold(rng, one_op(rng, form, ndim=1 + seed % 2), tmp_path)


@pytest.mark.parametrize("seed", SEEDS)
def test_sums_of_the_form_double_high(seed, tmp_path):
    rng = np.random.default_rng(seed)
    terms = 2 + seed % 2
    attrs = {
        "lift": 20,
        "term_shifts": tuple(rng.integers(0, 5, terms).tolist()),
        "total": int(rng.integers(2**30, 2**31)),
    }
    program = one_op(rng, "double_high", ndim=1 + seed % 3, terms=terms, **attrs)
    hold(rng, program, tmp_path)


def test_ties_of_the_forms(tmp_path):
    """x / 2 for odd x: half away from zero behind a high product, to even in float32; and a tie of
    the high product itself, which goes up."""
    rng = np.random.default_rng(0)
    x = np.array([[-3, -1, 1, 3]], np.int8)
    for form, m, shift, wanted in (
        ("double_high", 1 << 30, 0, [-1, 0, 1, 2]),
        ("double_high", 1 << 30, -1, [-3, -1, 1, 3]),
        ("float32", 1, 1, [-2, 0, 0, 2]),
    ):
        program = ties(form, m, shift)
        assert interpret(program, x)[0].tolist() == [wanted]
        hold(rng, program, tmp_path)
    lifted = ties("double_high", 1 << 30, 1, lift=1)  # 2 x * 2^30 / 2^31 is x
    assert interpret(lifted, x)[0].tolist() == [[-2, -1, 1, 2]]
    hold(rng, lifted, tmp_path)


def ties(form, m, shift, **attrs) -> Program:
    builder = ProgramBuilder("ties", None, Arithmetic(form=form))
    x = builder.input("x", "int8", (4,), 1.0)
    names = [builder.const("m", "int64", [m]), builder.const("s", "int64", [shift])]
    rounding = "half_even" if form == "float32" else "half_up"
    y = builder.emit(
        "requant", [x, *names], name="y", scale=1.0, dtype="int8", axis=1, form=form,
        rounding=rounding, low=-128, high=127, **attrs,
    )  # fmt: skip
    return builder.finish([y])


def test_accumulators_beyond_float32_are_rounded_to_it_first(tmp_path):
    """2^24 + 1 and 2^24 + 3 have no float32: they become 2^24 and 2^24 + 4."""
    builder = ProgramBuilder("wide", None, Arithmetic(form="float32"))
    x = builder.input("x", "int8", (2,), 1.0)
    w = builder.const("w", "int8", [[1, 0], [0, 1]])
    b = builder.const("b", "int32", [2**24, 2**24])
    acc = builder.emit("linear", [x, w, b], name="acc", scale=1.0)
    names = [builder.const("m", "int64", [1]), builder.const("s", "int64", [0])]
    y = builder.emit(
        "requant", [acc, *names], name="y", scale=1.0, dtype="int32", axis=1, form="float32",
        rounding="half_even", low=-(2**31), high=2**31 - 1,
    )  # fmt: skip
    program = builder.finish([y])
    assert interpret(program, np.array([[1, 3]], np.int8))[0].tolist() == [[2**24, 2**24 + 4]]
    hold(np.random.default_rng(1), program, tmp_path)


@pytest.mark.parametrize(
    ("form", "m", "shift", "attrs", "words"),
    [
        ("double_high", 1 << 31, 0, {}, r"in \[0, 2\^31\)"),
        ("double_high", -1, 0, {}, r"in \[0, 2\^31\)"),
        ("double_high", 1, 32, {}, r"shift must be in \[-30, 31\]"),
        ("double_high", 1, 0, {"lift": 31}, "`lift`"),
        ("float32", 1 << 24, 0, {}, "24 bits"),
        ("float32", 1, 150, {}, r"shift must be in \[0, 149\]"),
        ("float32", 1, 149, {}, "subnormal"),
        ("other", 1, 0, {}, "`form`"),
    ],
)
def test_constants_that_a_form_does_not_have(form, m, shift, attrs, words):
    with pytest.raises(Malformed, match=words):
        ties(form, m, shift, **attrs)


def test_a_form_has_its_own_rounding_and_number_of_terms():
    builder = ProgramBuilder("terms", None)
    x = builder.input("x", "int8", (4,), 1.0)
    m, s = builder.const("m", "int64", [1 << 30]), builder.const("s", "int64", [0])
    one = builder.const("one", "int64", [1])
    attrs = {"dtype": "int8", "axis": 1, "low": -128, "high": 127}
    with pytest.raises(Malformed, match="`rounding` must be half_even"):
        builder.emit("requant", [x, one, s], name="y", form="float32", rounding="floor", **attrs)
    with pytest.raises(Malformed, match="one term"):
        builder.emit(
            "requant", [x, x, one, one, s], name="y", form="float32", rounding="half_even", **attrs
        )
    with pytest.raises(Malformed, match="`term_shifts`"):
        builder.emit(
            "requant", [x, x, m, m, s], name="y", form="double_high", rounding="half_up", **attrs
        )


def test_what_is_multiplied_stays_in_int32():
    with pytest.raises(Overflow, match="int32"):
        ties("double_high", 1 << 30, -25)
    with pytest.raises(Overflow, match="int32"):
        ties("double_high", 1 << 30, 0, lift=25)
    ties("double_high", 1 << 30, -23)


def test_a_form_is_written_down_and_read_again():
    for form in ("single", "double_high", "float32"):
        program = ties(form, 1, 1)
        again = Program.from_bytes(program.to_bytes())
        assert again.arithmetic.form == form
        assert dump(again) == dump(program)
        assert (f", {form})" in dump(program)) == (form != "single")


@pytest.mark.parametrize("form", ["double_high", "float32"])
def test_a_march_without_the_form_refuses_it(form):
    program = ties(form, 1, 1)
    ops = {"requant": OpSupport(dtypes=("int8",))}
    answer = verdict(program.ops[0], program, Target.of("plain", 1, _capable(ops)))
    assert not answer.ok
    assert f"of the form {form}: plain has single" in answer.reason
    ops = {"requant": OpSupport(dtypes=("int8",), forms=("single", form))}
    assert verdict(program.ops[0], program, Target.of("plain", 1, _capable(ops))).ok


def _capable(ops) -> Capabilities:
    from qatspec.registry import registry

    return Capabilities(ops=ops, hardware=registry().march("bayes").capabilities.hardware)


def test_multipliers_are_as_exact_as_their_bits():
    rng = np.random.default_rng(4)
    ratios = 2.0 ** rng.uniform(-31.5, 29, 2000)
    m, shift = forms.double_high(ratios)
    assert ((m >= 1 << 30) & (m < 1 << 31)).all()
    exact = m * np.exp2(-31.0 - shift)
    assert (np.abs(exact / ratios - 1) <= 2.0**-31).all()
    factors = ratios.astype(np.float32) * rng.choice([-1, 1], 2000).astype(np.float32)
    factors = factors[np.abs(factors) < 2**24]
    m, shift = forms.float32(factors)
    np.testing.assert_array_equal(np.ldexp(m.astype(np.float64), -shift), factors)


def test_multipliers_at_their_ends():
    m, shift = forms.double_high(np.array([0.0, 2.0**-34, 1 - 2.0**-40, 2.0**40]))
    assert m.tolist() == [0, 0, 1 << 30, (1 << 31) - 1]
    assert shift.tolist() == [0, 0, -1, -30]
    m, shift = forms.float32(np.array([0, 2.0**-126, 2.0**-140, 2.0**60], np.float32))
    assert (m[0], m[2], m[3]) == (0, 0, 2**24 - 1)
    assert np.ldexp(float(m[1]), -int(shift[1])) == 2.0**-126
