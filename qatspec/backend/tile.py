"""Tiles: how the constants of a group are held or streamed, and a layer that runs alone in passes
over its output channels because nothing larger fits on chip."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from qatspec.backend.network import Network
from qatspec.backend.region import Box, layer_needs
from qatspec.backend.strips import build, step_counts
from qatspec.backend.target import align


@dataclass(frozen=True, slots=True, kw_only=True)
class Constants:
    """How a group has its constants on chip. held: layers whose constants stay for all steps.
    chunks: the other layers, whose constants are loaded in each step through slots of `slot`
    bytes, for so many output channels at a time. queued: each chunk of the only layer has a slot of
    its own, from when it is loaded until it is used."""

    held: tuple[int, ...]
    chunks: dict[int, int]
    slot: int
    slots: int
    traffic: int
    queued: bool = False

    @property
    def bytes(self) -> int:
        """Bytes of the slots; those of the held layers are counted one by one."""
        return self.slot * self.slots


def arrange(
    net: Network, layers: Sequence[int], steps: int, space: int, depth: int
) -> Constants | None:
    """The constants of `layers` within `space` bytes with the fewest bytes loaded, or None.
    depth: slots of streamed constants."""
    sizes = {k: net.const_bytes(k) for k in layers if net.const_bytes(k)}
    guard = 0
    if sum(sizes.values()) > space:
        guard = depth * max(net.const_bytes(k, net.smallest_chunk(k)) for k in layers)
    if guard > space:
        return None
    order = sorted(sizes, key=lambda k: (-sizes[k], k))
    kept, left = hold([sizes[k] for k in order], space - guard)
    held = tuple(sorted(k for k, stays in zip(order, kept, strict=True) if stays))
    streamed = [k for k in sizes if k not in held]
    traffic = sum(sizes[k] for k in held) + steps * sum(sizes[k] for k in streamed)
    if not streamed:
        return Constants(held=held, chunks={}, slot=0, slots=0, traffic=traffic)
    slot = min((left + guard) // depth, max(sizes[k] for k in streamed))
    chunks = {}
    for k in streamed:
        chunk = net.chunk_for(k, slot)
        if chunk is None:
            return None
        chunks[k] = chunk
    slot = max(net.const_bytes(k, chunk) for k, chunk in chunks.items())
    return Constants(held=held, chunks=chunks, slot=slot, slots=depth, traffic=traffic)


def hold(sizes: Sequence[int], space: int) -> tuple[list[bool], int]:
    """Which constants stay on chip, for their bytes from the largest to the smallest, and the bytes
    of `space` that are left."""
    kept = []
    for size in sizes:
        kept.append(size <= space)
        space -= size * kept[-1]
    return kept, space


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """Layer `k` in passes over chunks of `channels`, each in so many steps over the rows: inputs
    are loaded once a pass, constants once.

    inputs   root -> (rows of its ring, bytes of a slot, slots). output: the same of the result.
    traffic  bytes through DDR. needed: bytes on chip, with `slots` buffers of constants.
    """

    k: int
    channels: int
    steps: int
    slots: int
    constants: int
    inputs: dict[str, tuple[int, int, int]]
    output: tuple[int, int, int]
    traffic: int

    @property
    def needed(self) -> int:
        buffers = [*self.inputs.values(), self.output]
        return self.slots * self.constants + sum(size * slots for _, size, slots in buffers)


def passes(
    net: Network, k: int, budget: int, depth: int, kept: Container[str] = ()
) -> tuple[Passes | None, int]:
    """The passes of layer k with the fewest bytes that fit, and the bytes that the smallest of all
    needs."""
    best: Passes | None = None
    least = -1
    height = net.heights[net.parts[k].root]
    counts = [1, *step_counts(height)] if net.divisible[k] else [1]
    for channels in _halves(net.channels(k), net.smallest_chunk(k)):
        for steps in counts:
            tried = _evaluate(net, k, channels, steps, depth, kept)
            least = tried.needed if least < 0 else min(least, tried.needed)
            if tried.needed <= budget and (best is None or tried.traffic < best.traffic):
                best = tried
    return best, least


def _evaluate(
    net: Network, k: int, channels: int, steps: int, depth: int, kept: Container[str]
) -> Passes:
    part, total = net.parts[k], net.channels(k)
    strips = build(net, k, k + 1, steps, slack=depth > 1, kept=kept)
    chunks = [(c0, min(c0 + channels, total)) for c0 in range(0, total, channels)]
    ranges: dict[str, list[tuple[int, int]]] = {}
    for chunk in chunks:
        for root, channels_read in pass_ranges(net, k, chunk).items():
            ranges.setdefault(root, []).append(channels_read)
    several = depth if len(chunks) > 1 and steps == 1 else 1
    traffic, inputs = net.const_bytes(k), {}
    for root, ends in ranges.items():
        if root in kept:
            continue
        rows, height = strips.rings[root].rows, net.heights[root]
        loads = ends if steps > 1 or len(set(ends)) > 1 else ends[:1]
        traffic += sum(net.bytes(root, c0, c1, height) for c0, c1 in loads)
        size = max(net.bytes(root, c0, c1, rows) for c0, c1 in ends)
        inputs[root] = rows, size, several if len(set(ends)) > 1 else 1
    output = (0, 0, 0)
    if part.root not in kept:
        rows = strips.rings[part.root].rows
        output = rows, net.bytes(part.root, 0, channels, rows), several
        traffic += net.part_bytes(k)
    return Passes(
        k=k,
        channels=channels,
        steps=steps,
        slots=min(depth, len(chunks)),
        constants=net.const_bytes(k, channels),
        inputs=inputs,
        output=output,
        traffic=traffic,
    )


def pass_ranges(net: Network, k: int, chunk: tuple[int, int]) -> dict[str, tuple[int, int]]:
    """Root -> the channels that a pass over channels chunk[0]..chunk[1] of layer k reads."""
    if (k, chunk) in net.ranges:
        return net.ranges[k, chunk]
    height = net.heights[net.parts[k].root]
    needs = layer_needs(net.layers[k], Box(*chunk, 0, height), net.program)
    ranges: dict[str, tuple[int, int]] = {}
    for read in net.reads[k]:
        need, offset = needs[read.name], read.c0
        ends = net.hull(read.root, offset + need.c0, offset + need.c1)
        before = ranges.get(read.root, ends)
        ranges[read.root] = min(before[0], ends[0]), max(before[1], ends[1])
    net.ranges[k, chunk] = ranges
    return ranges


def _halves(size: int, unit: int) -> list[int]:
    """size, then about half of it, and so on down to `unit`, each a multiple of `unit`."""
    sizes = [size]
    while sizes[-1] > unit:
        smaller = align(-(-sizes[-1] // 2), unit)
        if smaller >= sizes[-1]:
            break
        sizes.append(smaller)
    return sizes
