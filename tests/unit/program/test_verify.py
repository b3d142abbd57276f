"""verify refuses every broken program, and names what is wrong."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.ir import Value
from qatspec.program import ProgramBuilder, check, verify


def with_op(program, index, **changes):
    ops = list(program.ops)
    ops[index] = replace(ops[index], **changes)
    return replace(program, ops=tuple(ops))


def with_attr(program, index, **changes):
    return with_op(program, index, attrs={**program.ops[index].attrs, **changes})


def test_a_good_program(small):
    assert verify(small) == []
    assert check(small) is small


MUTATIONS = {
    "unknown kind": lambda p: with_op(p, 0, kind="conv9"),
    "undefined operand": lambda p: with_op(p, 0, inputs=("image", "w", "nobody")),
    "operand count": lambda p: with_op(p, 0, inputs=("image",)),
    "output defined twice": lambda p: with_op(p, 2, output="q"),
    "output undeclared": lambda p: with_op(p, 2, output="other"),
    "no operands": lambda p: with_op(p, 1, inputs=()),
    "missing attribute": lambda p: with_op(p, 0, attrs={}),
    "attribute of a wrong type": lambda p: with_attr(p, 0, groups="one"),
    "a bool for an int": lambda p: with_attr(p, 0, groups=True),
    "groups that do not divide": lambda p: with_attr(p, 0, groups=2),
    "negative stride": lambda p: with_attr(p, 0, stride=(0, 1)),
    "gigantic padding": lambda p: with_attr(p, 0, padding=(10**8, 10**8, 1, 1)),
    "unknown rounding": lambda p: with_attr(p, 1, rounding="stochastic"),
    "bounds outside the dtype": lambda p: with_attr(p, 1, high=128),
    "bounds crossed": lambda p: with_attr(p, 1, low=3, high=2),
    "axis past the shape": lambda p: with_attr(p, 1, axis=4),
    "axis of another size": lambda p: with_attr(p, 1, axis=2),
    "ops out of order": lambda p: replace(p, ops=p.ops[::-1]),
    "an op missing": lambda p: replace(p, ops=p.ops[1:]),
    "const not int64": lambda p: replace(p, consts={**p.consts, "m": np.ones(3, np.int32)}),
    "const of another shape": lambda p: replace(p, consts={**p.consts, "m": np.ones(2, np.int64)}),
    "shift too large": lambda p: replace(p, consts={**p.consts, "s": np.array([63])}),
    "multiplier past 2^53": lambda p: replace(p, consts={**p.consts, "m": np.full(3, 2**45)}),
    "bias past int32": lambda p: replace(p, consts={**p.consts, "b": np.full(3, 2**31 - 1, "i4")}),
    "no outputs": lambda p: replace(p, outputs=()),
    "two ports of a name": lambda p: replace(p, outputs=(p.outputs[0],) * 2),
    "port without value": lambda p: replace(p, outputs=(replace(p.outputs[0], name="zz"),)),
    "port of another dtype": lambda p: replace(p, outputs=(replace(p.outputs[0], dtype="int8"),)),
    "port with a zero point": lambda p: replace(p, inputs=(replace(p.inputs[0], zero_point=1),)),
    "zero scale": lambda p: replace(
        p, inputs=(replace(p.inputs[0], scale=np.zeros(1, np.float32)),)
    ),
    "nan scale": lambda p: replace(
        p, inputs=(replace(p.inputs[0], scale=np.full(1, np.nan, np.float32)),)
    ),
    "scale of another size": lambda p: replace(p, outputs=(replace(p.outputs[0], axis=2),)),
    "tree past the outputs": lambda p: replace(p, tree=[0, 2]),
    "tree of words": lambda p: replace(p, tree={"a": "b"}),
    "order that is none": lambda p: replace(p, tree={"$ordered": 3}),
    "order without keys": lambda p: replace(p, tree={"$ordered": [[0, 0]]}),
    "order of one": lambda p: replace(p, tree={"$ordered": [[{"$constant": "a"}]]}),
    "a value nobody defines": lambda p: replace(
        p, values={**p.values, "ghost": Value(name="ghost", dtype="int8", shape=(1,))}
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_every_mutation_is_refused(name, small):
    found = verify(MUTATIONS[name](small))
    assert found
    assert {d.code for d in found} <= {"QS711", "QS704"}
    with pytest.raises(DiagnosticError):
        check(MUTATIONS[name](small))


def test_overflow_names_the_module(small):
    (found,) = verify(MUTATIONS["bias past int32"](small))
    assert found.code == "QS704"
    assert "stem.conv" in found.message


def test_unused_values_are_dropped():
    builder = ProgramBuilder("p")
    x = builder.input("x", "int8", (1, 2, 2), 1.0)
    builder.emit("clamp", [x], name="unused", low=0, high=1, scale=[1.0])
    y = builder.emit("clamp", [x], name="y", low=0, high=1, scale=[1.0])
    assert [op.output for op in builder.finish([y]).ops] == ["y"]
