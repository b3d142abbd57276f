"""The parts of the model of time: the bus, buffers in memory, and when they may be used."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from qatspec.backend import Target, assemble
from qatspec.backend.cost import layer_us
from qatspec.backend.encode import decode
from qatspec.backend.region import Box, full_box
from qatspec.backend.schedule import (
    _Bus,
    _Memory,
    _note,
    _readable,
    _rows,
    _writable,
    duration_us,
    latency_us,
    schedule,
)


def test_transfers_take_the_first_free_time_of_the_bus():
    """Against a list of the slots of time, one microsecond each."""
    rng = np.random.default_rng(0)
    for _ in range(60):
        bus, free = _Bus(), np.ones(400, bool)
        for _ in range(25):
            ready, length = int(rng.integers(0, 60)), int(rng.integers(0, 9))
            slots = np.flatnonzero(free & (np.arange(400) >= ready))[:length]
            expected = (slots[0], slots[-1] + 1) if length else (ready, ready)
            assert bus.take(ready, length) == expected
            free[slots] = False
            starts, ends = np.array(bus._starts), np.array(bus._ends)
            assert (starts < ends).all() and (ends[:-1] <= starts[1:]).all()
            assert (ends - starts).sum() >= (~free).sum()


def test_a_bus_that_is_busy_is_shared():
    bus = _Bus()
    assert bus.take(2.0, 3.0) == (2.0, 5.0)
    assert bus.take(0.0, 4.0) == (0.0, 7.0)  # two before, two behind
    assert bus.take(6.0, 1.0) == (7.0, 8.0)
    assert bus.take(9.0, 1.0) == (9.0, 10.0)
    assert bus.take(0.0, 2.0) == (8.0, 11.0)


@pytest.mark.parametrize(
    "first, end, rows, expected",
    [(0, 4, 4, [0, 1, 2, 3]), (7, 12, 4, [0, 1, 2, 3]), (1, 3, 4, [1, 2]), (2, 4, 4, [2, 3]),
     (3, 5, 4, [3, 0]), (5, 8, 4, [1, 2, 3]), (6, 9, 4, [2, 3, 0])],
)  # fmt: skip
def test_rows_lie_in_a_ring(first, end, rows, expected):
    buffer = _Memory().buffer(0, 64, Box(0, 8, 0, rows))
    assert np.arange(rows)[_rows(buffer, Box(0, 8, first, end))].tolist() == expected


def test_reading_waits_for_writes_of_these_rows_and_channels_alone():
    buffer = _Memory().buffer(0, 64, Box(0, 8, 0, 4))
    _note(buffer, Box(0, 4, 0, 2), 5.0, write=True)
    _note(buffer, Box(4, 8, 0, 4), 9.0, write=True)
    assert _readable(buffer, Box(0, 4, 0, 2)) == 5.0
    assert _readable(buffer, Box(0, 4, 2, 4)) == 0.0
    assert _readable(buffer, Box(3, 5, 3, 4)) == 9.0
    assert _readable(buffer, Box(0, 8, 0, 1)) == 9.0


def test_writing_waits_for_reads_as_well():
    buffer = _Memory().buffer(0, 64, Box(0, 8, 0, 4))
    _note(buffer, Box(0, 8, 0, 4), 2.0, write=True)
    _note(buffer, Box(0, 8, 1, 2), 7.0, write=False)
    assert _writable(buffer, Box(0, 8, 1, 2)) == 7.0
    assert _writable(buffer, Box(0, 8, 2, 4)) == 2.0
    assert _readable(buffer, Box(0, 8, 1, 2)) == 2.0
    _note(buffer, Box(0, 8, 1, 2), 3.0, write=False)  # an earlier end changes nothing
    assert _writable(buffer, Box(0, 8, 1, 2)) == 7.0


@pytest.mark.parametrize("when", [_readable, _writable])
def test_channels_beside_each_other_do_not_wait(when):
    buffer = _Memory().buffer(0, 64, Box(0, 12, 0, 4))
    for low, end in ((0, 2.0), (4, 5.0), (8, 9.0)):
        _note(buffer, Box(low, low + 4, 0, 4), end, write=True)
    assert [when(buffer, Box(c, c + 4, 0, 4)) for c in (0, 4, 8)] == [2.0, 5.0, 9.0]
    assert when(buffer, Box(3, 5, 0, 4)) == 5.0 and when(buffer, Box(7, 9, 0, 4)) == 9.0
    _note(buffer, Box(4, 8, 0, 4), 20.0, write=False)
    assert [_writable(buffer, Box(c, c + 4, 0, 4)) for c in (0, 4, 8)] == [2.0, 20.0, 9.0]


def test_a_buffer_waits_for_what_lay_where_it_lies():
    memory, box = _Memory(), Box(0, 8, 0, 4)
    old = memory.buffer(0, 64, box)
    assert memory.buffer(0, 64, box) is old
    _note(old, box, 6.0, write=True)
    _note(old, Box(0, 8, 0, 1), 8.0, write=False)
    assert memory.buffer(64, 64, box).free == 0.0  # it begins where the other ends
    over = memory.buffer(63, 2, box)
    assert over.free == 8.0 and _readable(over, box) == 8.0 and _writable(over, box) == 8.0
    assert memory.buffer(0, 64, box) is not old
    assert memory.buffer(0, 64, box).free == 8.0


def test_the_time_of_a_run_is_its_last_end_and_the_overhead(full, target):
    compiled = decode(assemble(full, target(16 * 1024)))
    events = schedule(compiled)
    last = max(event.end for event in events)
    overhead = compiled.target.hardware.run_overhead_us
    assert latency_us(compiled) == duration_us(events, compiled) == last + overhead
    assert duration_us((), compiled) == overhead
    assert len(events) == len(compiled.commands)
    assert all(event.start <= event.end for event in events)


def test_transfers_stall_a_core_that_computes_meanwhile(full, target):
    """By a share of their time and no more; without the figure a file has the bytes it had."""
    artifact = assemble(full, target(16 * 1024))
    compiled = decode(artifact)
    moving = sum(e.end - e.start for e in schedule(compiled) if e.command.code != "execute")
    times = [
        duration_us(schedule(stalled), stalled)
        for share in (0.0, 0.3, 1.0)
        for stalled in [replace(compiled, target=target(16 * 1024, ddr_stall=share))]
    ]
    assert times[0] == latency_us(compiled) and "ddr_stall" not in compiled.target.record()
    assert times[0] < times[1] < times[2] <= times[0] + moving + 1e-6
    stalled = target(ddr_stall=0.3)
    assert Target.from_record(stalled.record()).hardware.ddr_stall == 0.3


def test_transfers_stall_no_core_that_waits_for_them(net, target):
    n = net()
    program = n.finish(n.conv(n.input(8, 8, 8), 8))
    first = []
    for share in (0.0, 1.0):
        events = schedule(decode(assemble(program, target(ddr_stall=share))))
        first.append(next(e for e in events if e.command.code == "execute"))
        loads = [e for e in events if e.command.code != "execute" and e.end <= first[-1].start]
        assert len(loads) >= 2
    assert first[0] == first[1]


def test_numbers_pass_once_through_a_layer_of_the_vector_unit(net, target):
    """A sum of two values and what rides behind it take the time of one pass."""
    n = net()
    x = n.input(16, 8, 8)
    y = n.emit("clamp", [n.add(x, x)], low=-5, high=9)
    compiled = decode(assemble(n.finish(y), target(1 << 20, start_overhead_us=0.0)))
    (layer,) = compiled.layers
    assert len(layer.ops) == 2
    box = full_box((16, 8, 8))
    us = layer_us(layer, box, compiled.program, compiled.target)
    assert us == 16 * 8 * 8 / 16 / 1000
