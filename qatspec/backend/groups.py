"""What every group of consecutive layers needs on chip and moves, whatever memory it is given:
computed once for a network, and read for each size of memory that a plan is made for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from qatspec.backend.network import Network
from qatspec.backend.strips import Strips, step_counts

#: Longest group that runs in strips: longer ones hardly fit, and the search takes their square.
_LONGEST = 64


class LayerByLayer(NamedTuple):
    """A group that runs layer by layer. bytes: on chip. moved: bytes of values through DDR;
    constants: those of the constants."""

    bytes: int
    moved: int
    constants: int


class Striped(NamedTuple):
    """A group that runs in strips. rings: bytes of its rings; ahead: what they need more for rows
    that are loaded ahead. loaded: bytes of values that come from DDR."""

    rings: int
    ahead: int
    loaded: int


class Groups:
    """The groups of a network, each list as far as its groups may fit the whole memory."""

    def __init__(self, net: Network) -> None:
        self.net = net
        self._layer_by_layer: dict[tuple[int, int, bool], Sequence[LayerByLayer]] = {}
        self._strips: dict[tuple[int, int, bool], Mapping[int, Sequence[Striped]]] = {}

    def layer_by_layer(self, start: int, depth: int, several: bool) -> Sequence[LayerByLayer]:
        """The groups start..start + 1, start..start + 2, ..., layer by layer. depth: slots of
        streamed constants. several: groups of more than one layer too."""
        key = (start, depth, several)
        if key not in self._layer_by_layer:
            self._layer_by_layer[key] = _layer_by_layer(self.net, *key)
        return self._layer_by_layer[key]

    def strips(self, end: int, depth: int, several: bool) -> Mapping[int, Sequence[Striped]]:
        """Number of strips -> the groups end - 1..end, end - 2..end, ... in so many strips."""
        key = (end, depth, several)
        if key not in self._strips:
            height = self.net.heights[self.net.parts[end - 1].root]
            self._strips[key] = {s: _strips(self.net, *key, s) for s in step_counts(height)}
        return self._strips[key]


def _layer_by_layer(net: Network, start: int, depth: int, several: bool) -> list[LayerByLayer]:
    whole_memory, count = net.target.hardware.onchip_bytes, len(net.layers)
    live = np.zeros(count - start, np.int64)
    spans: dict[str, tuple[int, int, int]] = {}  # root -> first position, c0, c1
    last: dict[str, int] = {}
    loads: dict[int, tuple[int, int, int]] = {}  # part -> c0, c1, bytes
    loaded = stored = constants = 0
    closing: dict[int, int] = {}
    groups: list[LayerByLayer] = []
    for k in range(start, count if several else start + 1):
        if net.layers[k].host:
            break
        live[k - start] += _least_constants(net, k, depth)
        part = net.parts[k]
        touches = [(part.root, part.c0, part.c1)]
        touches += [(r.root, r.c0, r.c1) for r in net.reads[k]]
        for root, c0, c1 in touches:
            c0, c1 = net.hull(root, c0, c1)
            height = net.heights[root]
            first = k
            if root in spans:
                first, b0, b1 = spans[root]
                live[first - start : last[root] + 1 - start] -= net.bytes(root, b0, b1, height)
                c0, c1 = min(c0, b0), max(c1, b1)
            live[first - start : k + 1 - start] += net.bytes(root, c0, c1, height)
            spans[root], last[root] = (first, c0, c1), k
        most = int(live[: k + 1 - start].max())
        if most > whole_memory:
            break
        constants += net.const_bytes(k)
        for read in net.reads[k]:
            for source in read.sources:
                if source >= start:
                    continue
                p = net.parts[source]
                c0, c1 = net.hull(p.root, max(read.c0, p.c0), min(read.c1, p.c1))
                if source in loads:
                    b0, b1, size = loads[source]
                    loaded -= size
                    c0, c1 = min(c0, b0), max(c1, b1)
                size = net.bytes(p.root, c0, c1, net.heights[p.root])
                loads[source] = c0, c1, size
                loaded += size
        stored += net.part_bytes(k)
        until = net.last_reader[k]
        closing[until] = closing.get(until, 0) + net.part_bytes(k)
        stored -= closing.pop(k, 0)
        groups.append(LayerByLayer(most, loaded + stored, constants))
    return groups


def _least_constants(net: Network, k: int, depth: int) -> int:
    """Bytes on chip without which layer k has no constants: all of them, or slots of one chunk."""
    chunk, every = net.const_bytes(k, net.smallest_chunk(k)), net.const_bytes(k)
    return depth * chunk if chunk < every else every


def _strips(net: Network, end: int, depth: int, several: bool, steps: int) -> list[Striped]:
    strips = Strips(net, end, steps, slack=depth > 1)
    constants, guard = 0, 0
    groups: list[Striped] = []
    for k in range(end - 1, max(-1, end - 1 - (_LONGEST if several else 1)), -1):
        if net.layers[k].host:
            break
        strips.add(k)
        constants += net.const_bytes(k)
        guard = max(guard, depth * net.const_bytes(k, net.smallest_chunk(k)))
        if strips.ring_bytes + min(constants, guard) > net.target.hardware.onchip_bytes:
            break
        groups.append(Striped(strips.ring_bytes, strips.input_slack(), strips.loaded()))
    return groups
