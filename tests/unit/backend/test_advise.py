"""Advice: what a change gains is what the changed network gains, and nothing else is told."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.backend import assemble
from qatspec.backend.advise import advise
from qatspec.backend.perf import timing
from qatspec.backend.profile import on_chip, reason, spills
from qatspec.backend.rewrite import Change, rewrite
from qatspec.ir import Provenance
from qatspec.types import HostCpu
from tests.unit.backend.test_fuse import random_net


def latency(program, target, **options):
    return timing(assemble(program, target, verify=False, **options)).latency


def advised(program, target, most=20, **options):
    def compiled(changed, chosen):
        return assemble(changed, target, verify=False, **chosen)

    result = advise(
        program, compiled, options, most=most, settings={"two cores": {"cores": 2}},
        report=lambda line: None,
    )  # fmt: skip
    for advice in result.advice:
        assert advice.before == result.latency > advice.after
        assert advice.gain == advice.before - advice.after
    changes = [(a.what, a.modules) for a in (*result.advice, *result.free)]
    assert len(set(changes)) == len(changes)
    gains = [advice.gain for advice in result.advice]
    assert gains == sorted(gains, reverse=True)
    assert all(a.after <= 1.001 * result.latency and a.more > 0 for a in result.free)
    return result


def two_convs(net, width):
    made = net("widths")
    x = made.conv(made.input(8, 32, 32), width)
    return made.finish(made.conv(x, 16))


def test_the_gain_of_a_width_is_that_of_the_network_built_with_it(net, target):
    """20 channels take as long as 24: wider is free, and narrower has the latency of a network
    that was built so."""
    chip = target(ddr_bytes_per_us=1e6, align_channels_in=8)
    result = advised(two_convs(net, 20), chip)
    (narrower,) = [a for a in result.advice if a.what == "20 -> 16 channels"]
    assert narrower.after == latency(two_convs(net, 16), chip)
    assert narrower.modules == ("conv_3",) and narrower.source == "net.py:3"
    (wider,) = [a for a in result.free if a.what == "20 -> 24 channels"]
    assert wider.after == latency(two_convs(net, 24), chip)
    full = advised(two_convs(net, 24), chip)
    assert not [a for a in (*full.advice, *full.free) if "channels" in a.what]


def test_a_width_that_an_output_or_a_concatenation_fixes_is_left(net, target):
    made = net("fixed")
    x = made.conv(made.input(8, 16, 16), 20)
    result = advised(made.finish(x), target())
    assert not [a for a in (*result.advice, *result.free) if "channels" in a.what]


def test_groups_that_do_not_fill_the_array_may_be_larger(net, target):
    def grouped(groups):
        made = net("groups")
        x = made.conv(made.input(8, 32, 32), 32)
        return made.finish(made.conv(x, 32, groups=groups))

    chip = target(ddr_bytes_per_us=1e6)
    result = advised(grouped(16), chip)
    (wider,) = [a for a in result.free if a.what == "16 -> 8 groups"]
    assert wider.after == latency(grouped(8), chip)


def test_a_large_kernel_and_a_narrow_one(net, target):
    def kernel(size):
        made = net("kernel")
        return made.finish(made.conv(made.input(16, 32, 32), 16, kernel=size))

    result = advised(kernel(7), target())
    (advice,) = [a for a in result.advice if a.what == "kernel 7 -> 3"]
    assert advice.after == latency(kernel(3), target())


def on_cpu(net, activation):
    made = net("activation")
    x = made.conv(made.input(8, 16, 16), 16, relu=False)
    if activation == "silu":
        table = made.const("int8", np.arange(-128, 128))
        origin = Provenance(module="act", node="act", source="net.py:9", op="silu")
        x = made.builder.emit("lut", [x, table], name="act", scale=0.05, origin=origin,
                              dtype="int8")  # fmt: skip
    else:
        x = made.emit("clamp", [x], low=0, high=127)
    return made.finish(made.conv(x, 16))


def test_an_activation_that_the_cpu_runs(net, target):
    host = HostCpu(ops={"silu": "no table"}, elements_per_us=100, start_us=10)
    result = advised(on_cpu(net, "silu"), target(host=host))
    best = result.advice[0]
    assert best.what == "silu -> ReLU" and "no table" in best.why and best.source == "net.py:9"
    assert best.after == latency(on_cpu(net, "relu"), target(host=host))
    assert result.costs[0].host and result.costs[0].name == "act"
    assert not [a for a in advised(on_cpu(net, "relu"), target()).advice if "ReLU" in a.what]


def separable(net, dense):
    made = net("separable")
    x = made.input(8, 8, 8)
    for _ in range(2):
        x = made.conv(x, 8) if dense else made.conv(made.conv(x, 8, groups=8), 8, kernel=1)
    return made.finish(x)


def test_layers_of_little_work_become_one(net, target):
    slow = target(start_overhead_us=20.0)
    result = advised(separable(net, dense=False), slow)
    (advice,) = [a for a in result.advice if a.what.startswith("depthwise 3x3 and 1x1")]
    assert advice.after == latency(separable(net, dense=True), slow)


def test_several_changes_at_once_are_compiled_too(net, target):
    made = net("several")
    x = made.conv(made.input(8, 32, 32), 20, kernel=5)
    program = made.finish(made.conv(x, 16))
    result = advised(program, target())
    count, after = result.together
    assert count >= 2 and after < min(a.after for a in result.advice if "cores" not in a.what)


def test_what_gains_nothing_is_not_told(net, target):
    """A network with nothing to gain: full lanes, small kernels, one layer."""
    made = net("good")
    result = advised(made.finish(made.conv(made.input(8, 8, 8), 16)), target())
    assert [a for a in result.advice if a.what != "two cores"] == [] == list(result.free)


@pytest.mark.parametrize("seed", range(12))
def test_a_program_without_changes_takes_the_same_time(net, target, seed):
    program = random_net(net, seed)
    again = rewrite(program, Change())
    assert [op.kind for op in again.ops] == [op.kind for op in program.ops]
    assert latency(again, target(24 * 1024)) == latency(program, target(24 * 1024))


@pytest.mark.parametrize("seed", range(8))
def test_advice_on_random_nets(net, target, seed):
    advised(random_net(net, seed), target(12 * 1024), most=6, opt="O1")


@pytest.mark.parametrize("seed", range(12))
def test_memory_over_time_stays_within_the_memory(net, target, seed):
    size = 24 * 1024
    timed = timing(assemble(random_net(net, seed), target(size), verify=False))
    held = on_chip(timed)
    assert [row[0] for row in held] == sorted(row[0] for row in held)
    assert all(a >= 0 and b >= 0 and a + b <= size for _, a, b in held)
    assert max(a + b for _, a, b in held) <= timed.compiled.onchip_bytes
    assert held[-1][1:] == (0, 0)


def test_why_values_pass_through_ddr(net, target):
    made = net("spilling")
    x = made.conv(made.input(8, 64, 64), 16)
    for _ in range(3):
        x = made.conv(made.conv(x, 32, stride=2), 16, kernel=1)
    program = made.finish(x)
    timed = timing(assemble(program, target(16 * 1024), opt="O1", verify=False))
    held, told = on_chip(timed), spills(timed)
    assert [one.moved for one in told] == sorted((one.moved for one in told), reverse=True)
    moved = sum(e.moved for e in timed.events if e.command.code == "store")
    assert sum(one.stored for one in told) < moved  # the output is no spill
    assert "64 KB, the memory on chip 16" in reason(told[0], timed, held)
    assert spills(timing(assemble(program, target(), verify=False))) == ()
