"""Fused groups: equal integers for any net and memory, less traffic, never slower with more."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from qatspec.backend import assemble, perf
from qatspec.backend.encode import decode
from qatspec.backend.machine import run_compiled
from qatspec.backend.plan import LEVELS
from qatspec.diag import DiagnosticError
from qatspec.referee import interpret
from qatspec.types import HostCpu


def random_net(net, seed):
    """A net of 6 to 14 ops that keep, halve, double or join images, with up to three outputs."""
    rng = np.random.default_rng(seed)
    made = net(f"random_{seed}", seed=seed)
    values = made.builder.values
    images = [made.input(int(rng.integers(2, 9)), int(rng.integers(8, 20)), 12)]

    def like(x):
        return [v for v in images if values[v].shape == values[x].shape]

    def same_size(x):
        return [v for v in images if values[v].shape[1:] == values[x].shape[1:]]

    def step(x):
        channels, rows, columns = values[x].shape
        kind = str(rng.choice(KINDS))
        if kind == "conv":
            kernel = int(rng.choice([1, 3, 5]))
            stride = int(rng.choice([1, 1, 2]))
            return made.conv(x, 4 * int(rng.integers(1, 5)), kernel=kernel, stride=stride)
        if kind == "depthwise":
            return made.conv(x, channels, groups=channels, dilation=int(rng.choice([1, 2])))
        if kind == "add":
            return made.add(x, str(rng.choice(like(x))))
        if kind == "concat":
            parts = [x, *(str(rng.choice(same_size(x))) for _ in range(2))]
            return made.emit("concat", parts, axis=1)
        if kind == "slice" and channels >= 4:
            start = 4 * int(rng.integers(0, channels // 4))
            return made.emit("slice", [x], axis=1, start=start, stop=channels, step=1)
        if kind == "rows" and rows >= 6:
            start, axis = int(rng.integers(0, 2)), int(rng.choice([2, 3]))
            stop = (rows, columns)[axis - 2]
            return made.emit("slice", [x], axis=axis, start=start, stop=stop, step=2)
        if kind == "pad":
            padding = tuple(int(p) for p in rng.integers(0, 3, 4))
            return made.emit("pad", [x], padding=padding, value=int(rng.integers(-9, 9)))
        if kind == "pool" and rows >= 4:
            window = {"kernel": (3, 3), "stride": (2, 2), "padding": (1, 1, 1, 1)}
            return made.emit("max_pool", [x], dilation=(1, 1), **window)
        if kind == "nearest" and rows < 20:
            return made.emit("resize_nearest", [x], size=(2 * rows, 2 * columns))
        if kind == "bilinear" and rows < 20:
            size = (int(rng.choice([rows + 1, 2 * rows, 3 * rows])), 2 * columns)
            y = made.emit("resize_bilinear", [x], size=size, align_corners=False, bits=8)
            return made.requant(y, per_channel=False)
        if kind == "transposed" and rows < 20:
            kernel, stride = int(rng.choice([2, 3, 4])), int(rng.choice([2, 3]))
            y = made.emit(
                "conv_transpose", [x, made.weight(channels, 6, kernel, kernel)],
                stride=(stride, stride), padding=tuple(int(p) for p in rng.integers(0, 2, 4)),
                output_padding=(int(rng.integers(0, stride)), 0), dilation=(1, 1), groups=1,
            )  # fmt: skip
            return made.requant(y)
        if kind == "gate":
            pooled = made.requant(made.emit("reduce_sum", [x], axes=(2, 3), keepdim=True))
            return made.requant(made.emit("mul", [x, pooled]), per_channel=False)
        return made.emit("clamp", [x], low=-50, high=60)

    for _ in range(int(rng.integers(6, 15))):
        images.append(step(str(rng.choice(images[-4:]))))
    others = rng.choice(images[1:], int(rng.integers(0, 3)))
    return made.finish(*dict.fromkeys([images[-1], *map(str, others)]))


KINDS = (
    "conv", "conv", "conv", "depthwise", "add", "concat", "concat", "slice", "rows", "pad", "pool",
    "nearest", "bilinear", "transposed", "gate", "clamp",
)  # fmt: skip


@pytest.mark.parametrize("seed", range(30))
def test_random_nets_at_every_size(net, noise, target, seed):
    program = random_net(net, seed)
    ints = noise(program, 1)
    expected = interpret(program, *ints)
    rng = np.random.default_rng(seed)
    for onchip in (1 << 20, 24 * 1024, 9 * 1024, 5 * 1024):
        opt, cores = str(rng.choice(list(LEVELS))), int(rng.integers(1, 3))
        options = {"opt": opt, "cores": cores, "batch": int(rng.choice([1, 1, 2, 5]))}
        try:
            artifact = assemble(program, target(onchip), **options, verify=False)
        except DiagnosticError as error:
            assert onchip < 1 << 20 and {d.code for d in error.diagnostics} == {"QS802"}
            continue
        for got, wanted in zip(run_compiled(artifact, ints), expected, strict=True):
            assert np.array_equal(got, wanted), (seed, onchip, options)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("opt", ["O2", "O3"])
def test_sizes_of_memory_that_give_the_same_plan_are_passed_over(
    net, target, monkeypatch, seed, opt
):
    """The file is the one that a search over every size gives."""
    program = random_net(net, seed)
    for onchip in (1 << 20, 24 * 1024):
        options = {"opt": opt, "verify": False}
        fast = assemble(program, target(onchip), **options).to_bytes()
        with monkeypatch.context() as patch:
            patch.setattr("qatspec.backend.plan._SPARE", 1e12)
            assert assemble(program, target(onchip), **options).to_bytes() == fast


@pytest.mark.parametrize("seed", range(8))
def test_random_nets_with_parts_on_the_cpu(net, noise, target, seed):
    """Layers of the CPU lie in DDR, between groups of the chip, whatever the level."""
    program = random_net(net, seed)
    ints, wanted = noise(program, 1), interpret(program, *noise(program, 1))
    kinds = sorted({op.kind for op in program.ops} - {"conv"})
    rng = np.random.default_rng(seed)
    left = {str(kind): "none" for kind in rng.choice(kinds, 2, replace=False)}
    host = HostCpu(ops=left, elements_per_us=100, start_us=10)
    for onchip in (1 << 20, 12 * 1024):
        opt = str(rng.choice(list(LEVELS)))
        artifact = assemble(program, target(onchip, host=host), opt=opt, cores=2, verify=False)
        outputs = run_compiled(artifact, ints)
        assert all(np.array_equal(a, b) for a, b in zip(outputs, wanted, strict=True)), opt
        summary = perf(artifact)["summary"]
        assert len(summary["CPU parts"]) > 1
        assert summary["latency (ms)"] > summary["latency of the CPU's parts (ms)"] >= 0.01


def chain(net):
    """A pyramid that does not fit 64 KiB layer by layer."""
    made = net("chain")
    x = made.conv(made.input(3, 64, 64), 16)
    for _ in range(3):
        x = made.conv(x, 16)
    x = made.conv(x, 32, stride=2)
    for _ in range(3):
        x = made.add(made.conv(made.conv(x, 64, kernel=1), 32), x)
    return made.finish(x)


def test_a_fused_chain_moves_its_input_output_and_constants_alone(net, target):
    program = chain(net)
    artifact = assemble(program, target(192 * 1024), verify=False)
    summary = perf(artifact)["summary"]
    least = 4 * 64 * 64 + 32 * 32 * 32 + len(artifact.sections["weights"])
    assert least <= summary["DDR bytes per frame"] <= 1.02 * least


def test_a_layer_by_layer_plan_moves_every_value_twice(net, target):
    program = chain(net)
    moved = {
        opt: perf(assemble(program, target(96 * 1024), opt=opt, verify=False))["summary"]
        for opt in ("O1", "O2")
    }
    assert moved["O1"]["DDR bytes per frame"] > 4 * moved["O2"]["DDR bytes per frame"]


@pytest.mark.parametrize(("opt", "alike"), [("O2", 1.0051), ("O3", 1.0)])
def test_more_memory_is_never_slower(net, full, small, target, opt, alike):
    """At O2, latencies that differ by less than half a percent count as alike: fewer bytes
    decide."""
    for program in (chain(net), full, small, random_net(net, 3)):
        latencies = []
        for kib in (16, 24, 32, 48, 64, 96, 128, 256):
            artifact = assemble(program, target(kib * 1024), opt=opt, verify=False)
            latencies.append(perf(artifact)["summary"]["latency (us)"])
        assert all(b <= alike * a for a, b in pairwise(latencies)), latencies


def test_more_memory_is_never_slower_where_transfers_stall_the_cores(net, small, target):
    for program in (small, random_net(net, 3)):
        latencies = []
        for kib in (16, 32, 64, 128):
            march = target(kib * 1024, ddr_stall=0.45)  # of X3
            artifact = assemble(program, march, opt="O3", verify=False)
            latencies.append(perf(artifact)["summary"]["latency (us)"])
        assert latencies == sorted(latencies, reverse=True)


def test_more_memory_never_moves_more(net, full, target):
    for program in (chain(net), full):
        moved = []
        for kib in (16, 32, 64, 128, 256):
            artifact = assemble(program, target(kib * 1024), opt="ddr", verify=False)
            moved.append(perf(artifact)["summary"]["DDR bytes per frame"])
        assert moved == sorted(moved, reverse=True)


def test_concats_and_ranges_of_channels_are_no_layers(net, target):
    made = net()
    x = made.conv(made.input(4, 12, 12), 16)
    first = made.emit("slice", [x], axis=1, start=0, stop=8, step=1)
    second = made.emit("slice", [x], axis=1, start=8, stop=16, step=1)
    joined = made.emit("concat", [first, second, made.conv(second, 8)], axis=1)
    program = made.finish(made.conv(joined, 4))
    compiled = decode(assemble(program, target()))
    run = {compiled.layers[c.layer].ops[0].kind for c in compiled.commands if c.code == "execute"}
    assert run == {"conv"}
    assert {home.root for home in compiled.homes.values()} >= {joined}
    assert compiled.homes[second].channel == 8


def test_a_start_is_paid_once_a_layer(net, target):
    def latency(overhead):
        program = chain(net)
        artifact = assemble(program, target(48 * 1024, start_overhead_us=overhead), verify=False)
        return perf(artifact)["summary"]["latency (us)"]

    layers = len(decode(assemble(chain(net), target(), verify=False)).layers)
    assert latency(100.0) - latency(0.0) == pytest.approx(100 * layers, rel=0.1)
