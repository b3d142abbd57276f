"""What must hold after each planning pass. They are cheap, and run where the environment variable
QATSPEC_CHECK_PASSES is set, as the tests of the backend do.

`emit` has its check in `dataflow`, which every reader of a file runs, and what each pass makes of
some small nets is written in tests/golden.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import pairwise

from qatspec.backend.compiled import Compiled
from qatspec.backend.cost import layer_us
from qatspec.backend.fuse import Group
from qatspec.backend.network import Network
from qatspec.backend.placement import Placement, Stage
from qatspec.backend.region import full_box, view
from qatspec.backend.schedule import Event

VARIABLE = "QATSPEC_CHECK_PASSES"
_EPSILON = 1e-6


class PassError(AssertionError):
    """A pass made something that breaks its own rules: a fault of qatspec."""


def enabled() -> bool:
    """Return whether passes are checked."""
    return bool(os.environ.get(VARIABLE))


def _demand(holds: bool, message: str) -> None:
    if not holds:
        raise PassError(message)


def check_views(net: Network) -> None:
    """Views: every home lies within its root, and no two layers write the same channels of one."""
    values = net.program.values
    for name, home in net.homes.items():
        channels, *plane = view(values[name].shape)
        most, *root_plane = view(values[home.root].shape)
        fits = home.channel >= 0 and home.channel + channels <= most and plane == root_plane
        _demand(fits, f"views: `{name}` does not lie within `{home.root}`")
    for root, parts in net.parts_of.items():
        ranges = sorted((net.parts[p].c0, net.parts[p].c1) for p in parts)
        disjoint = all(a[1] <= b[0] for a, b in pairwise(ranges))
        _demand(disjoint, f"views: two layers write the same channels of `{root}`")


def check_groups(groups: Sequence[Group], net: Network) -> None:
    """Fuse: every layer is in one group, in order, and layers of the CPU are alone."""
    end = 0
    for group in groups:
        _demand(group.start == end < group.end, f"fuse: a group begins at {group.start}, not {end}")
        end = group.end
        hosted = [net.layers[k].host for k in range(group.start, group.end)]
        alone = hosted == [True] if group.mode == "host" else not any(hosted)
        _demand(alone, f"fuse: a group of mode {group.mode} has layers of the CPU: {hosted}")
        single = group.mode in ("passes", "host")
        _demand(not single or len(hosted) == 1, f"fuse: {group.mode} of {len(hosted)} layers")
        rows = net.heights[net.parts[group.end - 1].root]
        _demand(1 <= group.steps <= rows, f"fuse: {group.steps} strips of {rows} rows")
    _demand(end == len(net.layers), f"fuse: groups end at {end} of {len(net.layers)} layers")


def check_placement(placed: Placement, net: Network, budget: int) -> None:
    """Place: every layer is in one stage, and what is on chip in a stage neither overlaps nor
    reaches past the memory; `budget`: bytes of the memory."""
    layers = [k for stage in placed.stages for k in stage.layers]
    _demand(layers == list(range(len(net.layers))), f"place: layers run in the order {layers}")
    _demand(placed.onchip_bytes <= budget, f"place: {placed.onchip_bytes} bytes of {budget}")
    for number, stage in enumerate(placed.stages):
        kept = [
            (address, net.bytes(keep.root, keep.c0, keep.c1, net.heights[keep.root]))
            for keep, address in placed.keeps
            if keep.covers(number)
        ]
        pieces = [*kept, *_pieces(stage, net)]
        for chunk in _queue(stage) or [(0, 0)]:
            ends = sorted((address, address + size) for address, size in [*pieces, chunk] if size)
            overlap = [(a, b) for a, b in pairwise(ends) if a[1] > b[0]]
            _demand(not overlap, f"place: buffers of stage {number} overlap: {overlap}")
            _demand(not ends or ends[-1][1] <= budget, f"place: stage {number} ends at {ends[-1:]}")


def check_tiles(placed: Placement, net: Network) -> None:
    """Tile: a stage has all constants of its layers, held or streamed in chunks that their slots
    hold, and a layer in passes has slots for each of its chunks."""
    for number, stage in enumerate(placed.stages):
        if stage.passes is not None:
            k, tile = stage.layers[0], stage.passes
            fits = net.const_bytes(k, tile.channels) <= tile.constants
            _demand(fits, f"tile: constants of stage {number} exceed their slot")
            _demand(1 <= tile.channels <= net.channels(k), f"tile: {tile.channels} channels a pass")
        if stage.arranged is None:
            continue
        held, chunks = set(stage.arranged.held), stage.arranged.chunks
        wanted = {k for k in stage.layers if net.const_bytes(k)}
        _demand(held | set(chunks) == wanted, f"tile: stage {number} lacks constants of {wanted}")
        twice = held & set(chunks)
        _demand(not twice, f"tile: stage {number} holds and streams constants of {twice}")
        for k, chunk in chunks.items():
            fits = net.const_bytes(k, chunk) <= stage.arranged.slot and stage.arranged.slots > 0
            _demand(fits, f"tile: {chunk} channels of layer {k} exceed their slot")


def check_cost(events: Sequence[Event], compiled: Compiled) -> None:
    """Cost: every layer runs, and in parts it takes no less than in one, shared by the cores."""
    times = [0.0] * len(compiled.layers)
    for event in events:
        if event.command.code in ("execute", "host"):
            times[event.command.layer] += event.end - event.start
    for index in sorted({e.command.layer for e in events if e.command.code == "execute"}):
        layer = compiled.layers[index]
        box = full_box(compiled.program.values[layer.output].shape)
        least = layer_us(layer, box, compiled.program, compiled.target) * compiled.frames
        _demand(
            times[index] >= least * (1 - _EPSILON),
            f"cost: `{layer.name}` takes {times[index]:.3f} us in parts, {least:.3f} in one",
        )


def _pieces(stage: Stage, net: Network) -> Iterator[tuple[int, int]]:
    """(address, bytes) of the buffers of one stage."""
    if stage.passes is not None:
        for root, addresses in stage.rings.items():
            yield from ((address, stage.passes.inputs[root][1]) for address in addresses)
        yield from ((address, stage.passes.output[1]) for address in stage.output)
        yield from ((address, stage.passes.constants) for address in stage.slots)
        return
    if stage.strips is not None:
        for root, addresses in stage.rings.items():
            yield from ((address, stage.strips.rings[root].bytes) for address in addresses)
    yield from ((address, net.const_bytes(k)) for k, address in stage.constants.items())
    if stage.arranged is not None and not stage.arranged.queued:
        yield from ((address, stage.arranged.slot) for address in stage.slots)


def _queue(stage: Stage) -> list[tuple[int, int]]:
    """(address, bytes) of the chunks of constants that come one after the other."""
    if stage.arranged is None or not stage.arranged.queued:
        return []
    return [(address, stage.arranged.slot) for address in stage.slots]


def check_schedule(events: Sequence[Event], compiled: Compiled) -> None:
    """Schedule: a unit does one thing at a time, in the order of the stream, and no more bytes move
    than DDR carries."""
    free: dict[str, float] = {}
    for event in events:
        command = event.command
        unit = f"core {command.core}" if command.code == "execute" else command.code
        unit = unit.replace("weight", "load")
        _demand(event.end >= event.start >= 0, f"schedule: {command.code} runs backwards")
        began = event.start >= free.get(unit, 0.0) - _EPSILON
        _demand(began, f"schedule: {unit} does two things at {event.start:.3f} us")
        free[unit] = event.end
    moved = sum(event.moved for event in events)
    least = moved / compiled.target.hardware.ddr_bytes_per_us
    _demand(
        max(free.values(), default=0.0) >= least - _EPSILON,
        f"schedule: {moved} bytes in {max(free.values(), default=0.0):.3f} us",
    )
