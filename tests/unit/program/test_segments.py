"""Tables in segments: interpreter, executor and onnxruntime against the definition in Python's
integers, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from qatspec.export import OnnxRunner, to_onnx
from qatspec.ir import RANGE, STORAGE
from qatspec.kinds import Malformed, ranges
from qatspec.program import Program, ProgramBuilder
from qatspec.program.serde import from_bytes, to_bytes
from qatspec.referee import interpret


def program(dtype: str, shape: tuple[int, ...], kind: str, consts: list, /, **attrs) -> Program:
    """One op that looks up."""
    builder = ProgramBuilder("one", None)
    names = [builder.input("x", dtype, shape, 1.0)]
    names += [builder.const(f"c{i}", *const) for i, const in enumerate(consts)]
    return builder.finish([builder.emit(kind, names, name="y", scale=1.0, **attrs)])


def in_segments(rng, out: str, fraction_bits: int) -> tuple[list, dict]:
    """A random table in segments: its constants and attributes."""
    low, high = (bound << fraction_bits for bound in RANGE[out])
    shifts = rng.integers(0, 9, 256)
    counts = 256 >> shifts
    first = np.cumsum(counts) - counts
    held = "int16" if high < 1 << 15 else "int32"
    table = rng.choice([*rng.integers(low, high, 99, endpoint=True), low, high], counts.sum() + 1)
    consts = [(held, table.astype(STORAGE[held])), ("int32", first << 4 | shifts)]
    return consts, {"fraction_bits": fraction_bits} if fraction_bits else {}


def entry(table: list[int], segments: list[int], bits: int, i: int) -> int:
    """Entry i as the kind's definition reads."""
    word = segments[i >> 8]
    s = word & 15
    a, r = (word >> 4) + ((i & 255) >> s), i & (2**s - 1)
    after = table[a + 1] if r else 0
    return (table[a] * (2**s - r) + after * r + 2 ** (s + bits) // 2) >> (s + bits)


@pytest.mark.parametrize(
    ("kind", "out", "bits"),
    [("lut", "int8", 8), ("lut", "uint8", 8), ("lut", "int16", 0), ("lut", "int4", 3),
     ("lut", "int32", 0), ("exp_below_max", "int16", 0), ("exp_below_max", "int32", 0)],
)  # fmt: skip
def test_every_way_gives_the_defined_entry(kind, out, bits, tmp_path: Path):
    pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    consts, attrs = in_segments(rng, out, bits)
    axis = {"axis": 2} if kind == "exp_below_max" else {}
    found = program("int16", (3, 70), kind, consts, dtype=out, **axis, **attrs)
    x = rng.integers(-(1 << 15), 1 << 15, (2, 3, 70)).astype(np.int16)
    x[0, 0, :3] = -32768, 32767, 0
    index = x.max(2, keepdims=True).astype(int) - x if axis else x.astype(int) + 32768
    table, segments = (array.tolist() for _, array in consts)
    expected = [entry(table, segments, bits, i) for i in index.reshape(-1).tolist()]
    to_onnx(found, tmp_path / "a.onnx")
    stored = from_bytes(to_bytes(found))
    ways = (found.run, stored.run, OnnxRunner.load(tmp_path / "a.onnx", threads=1).run)
    for way in (lambda x: interpret(found, x), *ways):
        assert way(x)[0].reshape(-1).tolist() == expected
    claim = ranges(found)["y"]
    assert claim.low.min() <= min(expected) and max(expected) <= claim.high.max()


@pytest.mark.parametrize(
    ("dtype", "words", "attrs", "message"),
    [
        ("int8", np.zeros(256), {}, "must be int16"),
        ("int16", np.zeros(255), {}, "must have 256 segments"),
        ("int16", np.full(256, 9), {}, "leaves the table"),
        ("int16", np.full(256, -16), {}, "leaves the table"),
        ("int16", np.full(256, 2 << 4 | 8), {}, "leaves the table"),
        ("int16", np.full(256, 1 << 4 | 8), {"fraction_bits": 7}, "entries of `c0` leave int8"),
        ("int16", np.full(256, 1 << 4 | 8), {"fraction_bits": 17}, "`fraction_bits`"),
        ("int16", None, {"fraction_bits": 1}, "only entries of a table in segments"),
    ],
)
def test_segments_that_do_not_fit(dtype, words, attrs, message):
    consts = [("int16", np.array([0, 1, 32767]))]
    consts += [] if words is None else [("int32", words.astype(np.int32))]
    with pytest.raises(Malformed, match=message):
        program(dtype, (4,), "lut", consts, dtype="int8", **attrs)
