"""Bins run by their commands and equal the interpreter, integer for integer."""

import numpy as np
import pytest

from qatspec.backend import assemble
from qatspec.backend.encode import decode
from qatspec.backend.machine import run_compiled
from qatspec.referee import interpret

SIZES = [1 << 20, 16 * 1024, 12 * 1024]


def equal(got, expected):
    pairs = zip(got, expected, strict=True)
    return all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


@pytest.mark.parametrize("onchip", SIZES)
@pytest.mark.parametrize("opt", ["O0", "O1", "O2", "O3"])
@pytest.mark.parametrize("cores", [1, 2])
def test_every_op_at_every_level(full, noise, target, onchip, opt, cores):
    ints = noise(full)
    artifact = assemble(full, target(onchip), opt=opt, cores=cores)
    assert equal(run_compiled(artifact, ints), interpret(full, *ints))


def test_a_memory_of_3_kilobytes_forces_tiles_of_one_row(small, noise, target):
    ints = noise(small)
    tight = assemble(small, target(3 * 1024))
    roomy = assemble(small, target())
    assert len(tight.sections["commands"]) > 2 * len(roomy.sections["commands"])
    commands = [c for c in decode(tight).commands if c.code == "execute"]
    assert any(c.box.rows == 1 for c in commands)
    assert equal(run_compiled(tight, ints), interpret(small, *ints))


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("kernel,padding,dilation", [(1, 0, 1), (3, 1, 1), (3, 2, 2), (5, 0, 1)])
def test_halos(net, noise, target, kernel, padding, dilation, stride):
    made = net()
    x = made.input(5, 13, 9)
    y = made.conv(x, 11, kernel=kernel, stride=stride, padding=padding, dilation=dilation)
    program = made.finish(made.conv(y, 6))
    ints = noise(program)
    artifact = assemble(program, target(4096), opt="O1")
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


@pytest.mark.parametrize("groups", [2, 3, 6])
def test_grouped_convolutions_split_by_whole_groups(net, noise, target, groups):
    made = net()
    x = made.input(12, 9, 9)
    program = made.finish(made.conv(x, 36, groups=groups))
    ints = noise(program)
    artifact = assemble(program, target(2816), opt="O0")
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


@pytest.mark.parametrize("groups", [1, 2, 12])
def test_transposed_convolutions_split_by_output_channels(net, noise, target, groups):
    """A weight of 9,216 bytes in a memory of 6,144: its channels come one part after the other."""
    made = net()
    x = made.input(12, 6, 6)
    weight = made.weight(12, 48 // groups, 4, 4)
    raised = made.emit(
        "conv_transpose", [x, weight], stride=(2, 2), padding=(1, 1, 1, 1), output_padding=(0, 0),
        dilation=(1, 1), groups=groups,
    )  # fmt: skip
    program = made.finish(made.requant(raised))
    ints = noise(program)
    artifact = assemble(program, target(6144), opt="O1")
    weights = [c for c in decode(artifact).commands if c.code == "weight"]
    assert len({c.box for c in weights}) > 1 or groups == 12
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


def test_an_op_may_read_a_value_twice(net, noise, target):
    made = net()
    x = made.conv(made.input(3, 6, 6), 8)
    squared = made.requant(made.emit("mul", [x, x]))
    program = made.finish(made.conv(made.emit("concat", [squared, squared], axis=1), 4))
    ints = noise(program)
    assert equal(run_compiled(assemble(program, target()), ints), interpret(program, *ints))


def test_an_input_may_be_an_output(net, noise, target):
    made = net()
    x = made.input(3, 5, 5)
    program = made.finish(made.conv(x, 4), x)
    ints = noise(program)
    assert equal(run_compiled(assemble(program, target()), ints), interpret(program, *ints))


@pytest.mark.parametrize("onchip", [1 << 20, 4096])
def test_an_op_may_read_one_value_several_times(net, noise, target, onchip):
    made = net()
    x = made.conv(made.input(3, 12, 9), 4)
    twice = made.requant(x, x, per_channel=False)
    square = made.requant(made.emit("mul", [x, x]), per_channel=False)
    channels = made.emit("concat", [x, twice, x], axis=1)
    rows = made.emit("concat", [square, square, x], axis=2)
    program = made.finish(channels, rows)
    ints = noise(program)
    artifact = assemble(program, target(onchip))
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


@pytest.mark.parametrize("onchip", [1 << 20, 12 * 1024, 8 * 1024, 6 * 1024])
def test_two_parts_of_a_concat_may_stay_on_chip_one_after_the_other(net, noise, target, onchip):
    """At one address, in buffers of other channels: the second one is loaded."""
    made = net()
    x = made.conv(made.input(3, 8, 8), 32, kernel=1)
    parts = [made.emit("slice", [x], axis=1, start=s, stop=s + 16, step=1) for s in (0, 16)]
    for _ in range(4):
        parts.append(made.add(parts[-1], made.conv(made.conv(parts[-1], 16), 16)))
    program = made.finish(made.conv(made.emit("concat", parts, axis=1), 16, kernel=1))
    ints = noise(program)
    artifact = assemble(program, target(onchip), opt="O2")
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


@pytest.mark.parametrize("onchip", [1 << 20, 40 * 1024])
def test_a_softmax_of_columns_runs_in_rows_and_heads(net, noise, target, onchip):
    """Scores of two heads, which take 40 KiB as exponentials, and the transpose of the weights."""
    made = net()
    x = made.conv(made.input(3, 8, 8), 16, kernel=1)
    heads = made.emit("reshape", [x], shape=(2, 8, 64))
    turned = made.emit("transpose", [heads], perm=(0, 1, 3, 2))
    scores = made.requant(made.emit("matmul", [turned, heads]), per_channel=False)
    table = made.const("int32", np.arange(256, 0, -1))
    powers = made.emit("exp_below_max", [scores, table], dtype="int32", axis=3)
    total = made.emit("reduce_sum", [powers], axes=(3,), keepdim=True)
    levels = {"dtype": "int8", "low": -128, "high": 127, "rounding": "half_up"}
    weights = made.emit("divide", [powers, total], multiplier=128, shift=0, **levels)
    weights = made.emit("transpose", [weights], perm=(0, 1, 3, 2))
    program = made.finish(made.requant(made.emit("matmul", [heads, weights]), per_channel=False))
    ints = noise(program)
    artifact = assemble(program, target(onchip))
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))


@pytest.mark.parametrize("onchip", [1 << 20, 6 * 1024])
def test_products_of_activations_run_in_rows_and_heads(net, noise, target, onchip):
    made = net()
    x = made.conv(made.input(3, 8, 8), 24, kernel=1)
    flat = made.emit("reshape", [x], shape=(24, 64))
    parts = [
        made.emit("slice", [flat], axis=1, start=8 * i, stop=8 * i + 8, step=1) for i in range(3)
    ]
    q, k, v = (made.emit("reshape", [part], shape=(2, 4, 64)) for part in parts)
    turned = made.emit("transpose", [q], perm=(0, 1, 3, 2))
    scores = made.requant(made.emit("matmul", [turned, k]), per_channel=False)
    values = made.emit("transpose", [v], perm=(0, 1, 3, 2))
    program = made.finish(made.requant(made.emit("matmul", [scores, values]), per_channel=False))
    ints = noise(program)
    artifact = assemble(program, target(onchip), cores=2)
    assert equal(run_compiled(artifact, ints), interpret(program, *ints))
