"""Ops over what the input itself holds: interpreter, executor and onnxruntime against their
definitions in Python's unbounded integers, at every edge that `verify` lets through."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from math import isqrt, prod

import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.export import OnnxRunner, to_onnx
from qatspec.ir import RANGE, STORAGE, Overflow, interval
from qatspec.kinds import Malformed, ranges
from qatspec.kinds.norms.kind import standardize_reach
from qatspec.program import Program, ProgramBuilder, dump
from qatspec.program.container import Damaged, pack, unpack
from qatspec.program.serde import MAGIC, VERSION, from_bytes, to_bytes
from qatspec.referee import interpret

BATCH = 2
#: The port of an op's first operand; ops of others are built around it.
Build = Callable[[ProgramBuilder, str], str]


def program(dtype: str, shapes: list[tuple[int, ...]], kind: str, consts=(), /, **attrs) -> Program:
    """One op over input ports and constants, (dtype, array) each."""
    builder = ProgramBuilder("one", None)
    names = [builder.input(f"x{i}", dtype, shape, 1.0) for i, shape in enumerate(shapes)]
    names += [builder.const(f"c{i}", *const) for i, const in enumerate(consts)]
    return builder.finish([builder.emit(kind, names, name="y", scale=1.0, **attrs)])


def alike(found: Program, path, *arrays: np.ndarray) -> np.ndarray:
    """The result that all three ways give, inside what `bounds` claims."""
    pytest.importorskip("onnxruntime")
    (expected,) = interpret(found, *arrays)
    to_onnx(found, path / "a.onnx")
    for way in (found, OnnxRunner.load(path / "a.onnx", threads=1)):
        assert np.array_equal(way.run(*arrays)[0], expected), (type(way), dump(found))
    claim = ranges(found)["y"]
    assert claim.low.min() <= expected.min()
    assert expected.max() <= claim.high.max()
    return expected


def ints(rng, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """Anything, or little but the ends and what is around 0."""
    low, high = RANGE[dtype]
    anything = rng.integers(low, high, (BATCH, *shape), endpoint=True)
    edges = rng.choice([low, low + 1, -1, 0, 1, high], (BATCH, *shape))
    style = rng.integers(4)
    if style == 0:
        anything = edges
    elif style == 1:
        anything = np.full((BATCH, *shape), rng.choice(edges.reshape(-1)))
    elif style == 2:  # one that stands out
        anything = np.full((BATCH, *shape), rng.choice([low, 0, high]))
        anything.reshape(BATCH, -1)[:, rng.integers(prod(shape))] = rng.choice([low, high])
    return anything.astype(STORAGE[dtype])


# -- definitions -------------------------------------------------------------------------------


def rounded(above: int, below: int, rounding: str) -> int:
    if rounding == "floor":
        return above // below
    whole, rest = divmod(above, below)
    up = 2 * rest > below or (2 * rest == below and (rounding == "half_up" or whole % 2 == 1))
    return whole + up


def quotient(x: int, y: int, a: dict) -> int:
    above, below = x * a["multiplier"] * (-1 if y < 0 else 1), (abs(y) or 1) << a["shift"]
    found = rounded(above, below, a["rounding"])
    return min(max(found, a["low"]), a["high"])


def standard(row: list[int], a: dict) -> list[int]:
    n, total = len(row), sum(row)
    v = n * sum(x * x for x in row) - total * total
    root = max(isqrt((v + a["epsilon"]) * 4 ** a["root_bits"]), 1)
    return [rounded((n * x - total) << (a["bits"] + a["root_bits"]), root, "half_up") for x in row]


# -- against them ------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(40))
def test_divide(seed, tmp_path):
    rng = np.random.default_rng(seed)
    dtype = str(rng.choice(["int4", "int8", "int16", "int32"]))
    out = str(rng.choice(["int4", "int8", "int16", "int32"]))
    low, high = RANGE[out]
    ends = sorted(rng.integers(low, high, 2, endpoint=True).tolist())
    shape = (3, 40)
    narrow = (3, 1) if seed % 3 == 0 else shape
    attrs = {
        "dtype": out,
        "rounding": str(rng.choice(["half_up", "half_even", "floor"])),
        "low": low if seed % 2 else ends[0],
        "high": high if seed % 2 else ends[1],
    }
    reach = -RANGE[dtype][0]
    for _ in range(100):  # what `bounds` takes, the largest of it among them
        attrs["shift"] = int(rng.choice([0, 1, rng.integers(51), 50]))
        headroom = (2**51 - 1 - (reach << attrs["shift"])) // reach
        if headroom > 0:
            some = [headroom, 0, 1, 1 << attrs["shift"], rng.integers(headroom + 1)]
            attrs["multiplier"] = int(min(rng.choice(some), headroom, 1 << 50))
            break
    else:
        raise AssertionError("no attributes fit")
    found = program(dtype, [shape, narrow], "divide", **attrs)
    x, y = ints(rng, dtype, shape), ints(rng, dtype, narrow)
    x[0, 0, :6], y[0, 0, 0] = [-3, -2, -1, 0, 1, 2], (2, 0)[seed % 2]
    got = alike(found, tmp_path, x, y)
    pairs = zip(x.reshape(-1), np.broadcast_to(y, x.shape).reshape(-1), strict=True)
    assert got.reshape(-1).tolist() == [quotient(int(a), int(b), attrs) for a, b in pairs]


@pytest.mark.parametrize("rounding", ["half_up", "half_even", "floor"])
def test_every_quotient_of_small_integers(rounding, tmp_path):
    every = np.arange(-128, 128, dtype=np.int8)
    x, y = np.tile(every.reshape(1, 256, 1), (1, 1, 256)), np.tile(every, (1, 256, 1))
    attrs = {
        "dtype": "int16", "multiplier": 2, "shift": 2, "rounding": rounding,
        "low": -32768, "high": 32767,
    }  # fmt: skip
    found = program("int8", [(256, 256)] * 2, "divide", **attrs)
    wanted = [quotient(int(a), int(b), attrs) for a, b in product(every, every)]
    assert alike(found, tmp_path, x, y).reshape(-1).tolist() == wanted


@pytest.mark.parametrize("seed", range(40))
def test_standardize(seed, tmp_path):
    rng = np.random.default_rng(seed)
    dtype = ("int4", "int8", "int16")[seed % 3]
    count = int(rng.choice([1, 2, 3, 7, 40, 300]))
    shape = (3, count)
    spread = count * (RANGE[dtype][1] - RANGE[dtype][0])
    for _ in range(1000):
        attrs = {
            "bits": int(rng.choice([0, 8, 24, rng.integers(25)])),
            "root_bits": int(rng.choice([1, 16, rng.integers(1, 17)])),
            "epsilon": int(rng.choice([0, 1, 1 << 60, 2 ** rng.uniform(0, 60)])),
        }
        try:
            found = program(dtype, [shape], "standardize", axes=(2,), **attrs)
        except Overflow:
            continue
        break
    else:
        raise AssertionError(f"no attributes fit a spread of {spread}")
    x = ints(rng, dtype, shape)
    x[0, 0] = x[0, 0, 0]  # no variance
    got = alike(found, tmp_path, x)
    for row, wanted in zip(x.reshape(-1, count), got.reshape(-1, count), strict=True):
        assert wanted.tolist() == standard(row.tolist(), attrs)


def test_standardize_over_several_dims(tmp_path):
    x = ints(np.random.default_rng(0), "int8", (2, 3, 4))
    attrs = {"bits": 12, "root_bits": 10, "epsilon": 5}
    got = alike(program("int8", [(2, 3, 4)], "standardize", axes=(3, 1), **attrs), tmp_path, x)
    for at in np.ndindex(BATCH, 3):
        row = x[at[0], :, at[1]].reshape(-1).tolist()
        assert got[at[0], :, at[1]].reshape(-1).tolist() == standard(row, attrs)


def test_the_bound_of_standardize():
    """One that stands out among n comes nearest to it, and nothing goes over it."""
    rng = np.random.default_rng(0)
    closest = 0.0
    for count, step in product((1, 2, 3, 4, 5, 10, 100, 4000), (1, 2, 255)):
        rows = [[0] * (count - far) + [step] * far for far in {1, 2, count // 2} if far <= count]
        rows += [(rng.integers(0, step + 1, count)).tolist() for _ in range(20)]
        for row, root_bits, epsilon in product(rows, (1, 3, 16), (0, 1, 1 << 20)):
            attrs = {"bits": 8, "root_bits": root_bits, "epsilon": epsilon}
            most = max(abs(u) for u in standard(row, attrs))
            bound = standardize_reach(attrs, count, interval(0, step)).result
            assert most <= bound
            closest = max(closest, most / bound)
    assert closest > 0.9


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("dtype", ["int4", "int8", "int16"])
def test_matmul(seed, dtype, tmp_path):
    rng = np.random.default_rng(seed)
    most = 2**31 // RANGE[dtype][0] ** 2 - 1
    m, k, n = rng.integers(1, 5), int(min(rng.choice([1, 2, 300]), most)), rng.integers(1, 5)
    front = [((), ()), ((3,), (3,)), ((3,), (1,)), ((1, 2), (3, 1))][seed % 4]
    shapes = [(*front[0], int(m), k), (*front[1], k, int(n))]
    x, y = (ints(rng, dtype, shape) for shape in shapes)
    if seed == 0:
        x[:], y[:] = RANGE[dtype][0], RANGE[dtype][0]
    got = alike(program(dtype, shapes, "matmul"), tmp_path, x, y)
    assert (got == x.astype(object) @ y.astype(object)).all()


def test_matmul_next_to_the_end_of_int32(tmp_path):
    shapes = [(1, 131_071), (131_071, 1)]  # one more, and -128 * -128 * 2^17 = 2^31
    x, y = (np.full((1, *shape), -128, np.int8) for shape in shapes)
    assert alike(program("int8", shapes, "matmul"), tmp_path, x, y).item() == 2**31 - 2**14
    with pytest.raises(Overflow):
        program("int8", [(1, 131_072), (131_072, 1)], "matmul")


@pytest.mark.parametrize("dtype", ["int4", "int8", "int16"])
@pytest.mark.parametrize("out", ["int8", "int16", "int32"])
def test_exp_below_max(dtype, out, tmp_path):
    rng = np.random.default_rng(0)
    low, high = RANGE[dtype]
    table = rng.integers(*RANGE[out], high - low + 1, endpoint=True).astype(STORAGE[out])
    for axis in (1, 2):
        x = ints(rng, dtype, (5, 7))
        x[0, 0], x[0, :, 0] = low, high
        found = program(dtype, [(5, 7)], "exp_below_max", [(out, table)], dtype=out, axis=axis)
        below = x.max(axis, keepdims=True).astype(int) - x
        assert np.array_equal(alike(found, tmp_path, x), table[below])


@pytest.mark.parametrize("dtype", ["int4", "int8", "int16"])
@pytest.mark.parametrize("keepdim", [True, False])
def test_argmax_gives_the_first(dtype, keepdim, tmp_path):
    for seed, axis in product(range(6), (1, 2)):
        x = ints(np.random.default_rng(seed), dtype, (70, 33))
        found = program(dtype, [(70, 33)], "argmax", axis=axis, keepdim=keepdim)
        wanted = np.argmax(x, axis, keepdims=keepdim)
        assert np.array_equal(alike(found, tmp_path, x), wanted)


@pytest.mark.parametrize("dtype", ["int4", "int8", "int16"])
def test_affine(dtype, tmp_path):
    rng = np.random.default_rng(0)
    x = ints(rng, dtype, (4, 3))
    for axis, size in ((1, 4), (2, 3)):
        w = rng.choice([-128, -1, 0, 127], size)
        b = rng.choice([-(2**31) + 2**23, 0, 1, 2**31 - 1 - 2**23], size)
        found = program(dtype, [(4, 3)], "affine", [("int8", w), ("int32", b)], axis=axis)
        along = (1, -1, 1) if axis == 1 else (1, 1, -1)
        wanted = x.astype(object) * w.reshape(along) + b.reshape(along)
        assert (alike(found, tmp_path, x) == wanted).all()


def test_affine_whose_bias_takes_back_what_the_product_is(tmp_path):
    """A result that float32 holds, of products that it does not."""
    builder = ProgramBuilder("one", None)
    x = builder.input("x", "int8", (2, 4), 1.0)
    m, far = builder.const("m", "int64", [1]), 2**25 + 1
    shift = builder.const("s", "int64", [0])
    near = builder.emit(
        "requant", (x, m, shift), name="near", dtype="int32", axis=1, rounding="floor",
        low=-3, high=3,
    )  # fmt: skip
    w, one = builder.const("w", "int8", [1, 1]), builder.const("b", "int32", [far, far])
    up = builder.emit("affine", (near, w, one), name="up", axis=1)
    narrow = builder.emit(
        "requant", (up, m, shift), name="narrow", dtype="int32", axis=1, rounding="floor",
        low=far - 3, high=far + 3,
    )  # fmt: skip
    back = builder.const("b", "int32", [-far, -far])
    y = builder.emit("affine", (narrow, w, back), name="y", scale=1.0, axis=1)
    x = np.array([[[-3, -2, -1, 0], [1, 2, 3, 0]]], np.int8)
    assert np.array_equal(alike(builder.finish([y]), tmp_path, x), x)


# -- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "attrs"),
    [
        ("standardize", {"axes": (2,), "bits": 24, "root_bits": 16, "epsilon": 1 << 60}),
        ("standardize", {"axes": (1, 2), "bits": 24, "root_bits": 16, "epsilon": 0}),
        (
            "divide",
            {"dtype": "int8", "multiplier": 1 << 50, "shift": 0, "rounding": "floor", "low": 0,
             "high": 0},
        ),
        (
            "divide",
            {"dtype": "int8", "multiplier": 0, "shift": 50, "rounding": "floor", "low": 0,
             "high": 0},
        ),
    ],
)  # fmt: skip
def test_what_leaves_the_room(kind, attrs):
    with pytest.raises(Overflow):
        program("int16", [(64, 64)] * (1 + (kind == "divide")), kind, **attrs)


@pytest.mark.parametrize(
    ("kind", "attrs"),
    [
        ("argmax", {"axis": 1, "keepdim": True}),
        ("clamp", {"low": 0, "high": 1}),
        ("matmul", {}),
        ("standardize", {"axes": (1,), "bits": 1, "root_bits": 1, "epsilon": 0}),
    ],
)
def test_a_constant_is_no_activation(kind, attrs):
    """It has no batch: an op would take its first dim for that."""
    builder = ProgramBuilder("one", None)
    x = builder.input("x", "int8", (3, 3), 1.0)
    c = builder.const("c", "int8", np.ones((3, 3)))
    operands = (x, c) if kind == "matmul" else (c,)
    with pytest.raises(Malformed, match="`c`"):
        builder.emit(kind, operands, name="y", scale=1.0, **attrs)


def test_forged_files():
    """Every attribute, shape and operand of such ops replaced: refused, or a program that runs."""
    table = [("int16", np.arange(256))]
    kinds = [
        program("int8", [(2, 3), (3, 2)], "matmul"),
        program("int8", [(4,)], "exp_below_max", table, dtype="int16", axis=1),
        program(
            "int8", [(4,), (1,)], "divide", dtype="int8", multiplier=3, shift=1,
            rounding="half_even", low=-9, high=9,
        ),
        program("int8", [(4, 2)], "standardize", axes=(1, 2), epsilon=3, bits=8, root_bits=8),
        program("int8", [(2, 2)], "affine", [("int8", [1, 2]), ("int32", [3, 4])], axis=2),
        program("int8", [(4, 2)], "argmax", axis=2, keepdim=False),
    ]  # fmt: skip
    strange = [
        None, True, 0, 1, 2, 3, -1, 24, 50, 2**28, 2**60, 2**70, 1e308, "x0", "y", "floor", "int4",
        "int32", "int64", [], [1], [1, 2], [2**14, 2**14], [0], {}, [[1]],
    ]  # fmt: skip
    refused = ran = 0
    for original in kinds:
        header, sections = unpack(MAGIC, VERSION, to_bytes(original))
        del header["sections"]
        text = json.dumps(header)
        every = list(product(_places(header), strange))
        for path, value in every[len(text) % 4 :: 4]:
            copy = json.loads(text)
            node = copy
            for step in path[:-1]:
                node = node[step]
            node[path[-1]] = value
            try:
                found = from_bytes(pack(MAGIC, VERSION, copy, sections))
            except (Damaged, DiagnosticError):
                refused += 1
                continue
            arrays = [np.full((2, *p.shape), -1, STORAGE[p.dtype]) for p in found.inputs]
            for got, wanted in zip(found.run(*arrays), interpret(found, *arrays), strict=True):
                assert np.array_equal(got, wanted)
            ran += 1
    assert refused > 500
    assert ran > 5


def _places(node, path=()):
    """Paths of every leaf and branch of `values` and `ops`."""
    for key, item in node.items() if isinstance(node, dict) else enumerate(node):
        if path or key in ("values", "ops", "inputs", "outputs", "consts"):
            yield (*path, key)
            if isinstance(item, (dict, list)):
                yield from _places(item, (*path, key))
