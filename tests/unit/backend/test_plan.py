"""Layers, tilings and addresses."""

from itertools import pairwise

import numpy as np
import pytest

from qatspec.backend import assemble
from qatspec.backend.commands import BadStream, decode, encode
from qatspec.backend.encode import decode as decode_artifact
from qatspec.backend.layers import group
from qatspec.backend.schedule import latency_us, schedule
from qatspec.diag import DiagnosticError


def test_what_rides_behind_a_convolution_is_one_layer(small, target):
    layers = group(small, target())
    assert [[op.kind for op in layer.ops] for layer in layers] == [
        ["conv", "requant"],
        ["conv", "requant"],
        ["conv", "requant"],
        ["conv", "requant"],
        ["conv"],
    ]
    residual = layers[3]
    assert len(residual.inputs) == 2


def test_two_convolutions_summed_are_two_layers_in_a_runnable_order(net, target):
    made = net()
    x = made.input(4, 6, 6)
    a, b = made.raw_conv(x, 4), made.raw_conv(x, 4)
    layers = group(made.finish(made.requant(a, b)), target())
    assert layers[0].output == b
    assert [op.kind for op in layers[1].ops] == ["conv", "requant"]
    assert b in layers[1].inputs


def test_layers_of_one_module_have_names_of_their_own(small, target):
    names = [layer.name for layer in group(small, target())]
    assert len(set(names)) == len(names)


def test_higher_levels_are_never_slower(full, small, target):
    for program in (full, small):
        for onchip in (1 << 20, 16 * 1024):
            times = [
                latency_us(decode_artifact(assemble(program, target(onchip), opt=opt)))
                for opt in ("O1", "O2", "O3")
            ]
            assert times == sorted(times, reverse=True)


def test_residency_spares_traffic(small, target):
    moved = {
        opt: sum(e.moved for e in schedule(decode_artifact(assemble(small, target(), opt=opt))))
        for opt in ("O1", "O2")
    }
    assert moved["O2"] < moved["O1"] / 2


def test_nothing_uses_more_than_the_memory(full, target):
    for onchip in (12 * 1024, 16 * 1024, 64 * 1024):
        assert decode_artifact(assemble(full, target(onchip))).onchip_bytes <= onchip


def test_every_layer_that_cannot_fit_is_named(full, target):
    with pytest.raises(DiagnosticError) as caught:
        assemble(full, target(3000))
    refused = caught.value.diagnostics
    assert len(refused) > 1 and len({d.message for d in refused}) == len(refused)
    for found in refused:
        assert found.code == "QS802"
        assert "smallest tile needs" in found.message
        assert found.at is not None and found.at.startswith("/rules/")


def test_a_layer_that_cannot_fit_beside_others_is_named(full, target):
    """No layer alone is larger than the memory."""
    sizes = [12 * 1024]
    while sizes[-1] > 3000:
        try:
            assemble(full, target(sizes[-1]))
        except DiagnosticError as error:
            assert {d.code for d in error.diagnostics} == {"QS802"}
            break
        sizes.append(sizes[-1] - 250)
    assert len(sizes) > 1


def test_units_never_do_two_things_at_once(full, target):
    compiled = decode_artifact(assemble(full, target(16 * 1024), opt="O3", cores=2))
    lanes: dict[object, list[tuple[float, float]]] = {}
    for event in schedule(compiled):
        code = event.command.code
        lane = {"execute": event.command.core, "store": "store"}.get(code, "load")
        lanes.setdefault(lane, []).append((event.start, event.end))
    assert set(lanes) == {0, 1, "load", "store"}
    for spans in lanes.values():
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_loads_and_stores_share_the_bandwidth(full, target):
    compiled = decode_artifact(assemble(full, target(16 * 1024)))
    moves = [e for e in schedule(compiled) if e.moved]
    rate = compiled.target.hardware.ddr_bytes_per_us
    for first in moves:
        for last in moves:
            inside = [e.moved for e in moves if first.start <= e.start and e.end <= last.end]
            if inside:
                assert sum(inside) <= rate * (last.end - first.start) * 1.000001


def test_loads_overlap_compute_from_o1_on(net, target):
    made = net()
    x = made.input(16, 64, 64)
    program = made.finish(made.conv(x, 64))

    def overlapped(opt):
        events = schedule(decode_artifact(assemble(program, target(32 * 1024), opt=opt)))
        execs = [e for e in events if e.command.code == "execute"]
        moves = [e for e in events if e.command.code != "execute"]
        return sum(
            max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in execs for b in moves
        )

    assert overlapped("O1") > 100
    assert overlapped("O0") < overlapped("O1") / 50


def test_large_constants_arrive_while_layers_before_them_run(net, target):
    """Those of two layers do not fit beside each other: memory that a chunk of the first leaves is
    filled by one of the second, and the queue of loads never waits."""
    made = net()
    x = made.input(32, 24, 24)
    for _ in range(8):
        x = made.conv(x, 32)
    x = made.conv(made.conv(x, 64, stride=4), 128)
    program = made.finish(made.conv(x, 64))
    compiled = decode_artifact(assemble(program, target(128 * 1024, ddr_bytes_per_us=800)))
    moved = sum(event.moved for event in schedule(compiled))
    assert latency_us(compiled) < 1.03 * moved / 800


def test_the_stream_survives_its_bytes(full, target):
    commands = decode_artifact(assemble(full, target(16 * 1024))).commands
    assert decode(encode(commands)) == commands


def test_any_bytes_are_a_stream_or_a_bad_stream(full, target):
    good = assemble(full, target()).sections["commands"]
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        data = bytearray(good[: int(rng.integers(0, 400))])
        for _ in range(int(rng.integers(1, 4))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        try:
            decode(bytes(data))
        except BadStream:
            refused += 1
    assert refused > 100
