"""Strips: a group of consecutive layers that runs a few rows at a time.

In each step every layer of the group makes the rows that the layers behind it ask for; a value is
held in a ring of as many rows as are still to be read. No row is loaded or computed twice.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass

import numpy as np

from qatspec.backend.network import Network


@dataclass(slots=True)
class Ring:
    """The rows of a root that a group needs at one time. low[s]: the first row that step s or a
    later one touches; high[s]: rows that are there before step s. streams: rows pass between the
    ring and DDR. bytes: in the shape that the ring has now."""

    c0: int
    c1: int
    low: np.ndarray
    high: np.ndarray
    streams: bool = False
    rows: int = 0
    bytes: int = 0


@dataclass(slots=True)
class Demand:
    """What the layers of the group read of a part that none of them has written: how many of its
    rows before each step, and which channels."""

    high: np.ndarray
    c0: int
    c1: int


class Strips:
    """A group of layers up to position `end` (exclusive), extended to the front by `add`.

    steps  strips that the group's results are cut into.
    slack  whether rings that exchange rows with DDR have space for the rows of the next step.
    kept   roots with a whole buffer of their own on chip.
    """

    def __init__(
        self, net: Network, end: int, steps: int, *, slack: bool, kept: Container[str] = ()
    ) -> None:
        self.net, self.end, self.steps, self.slack, self.kept = net, end, steps, slack, kept
        self.start = end
        self.done: dict[int, np.ndarray] = {}  # layer -> rows that it has made before each step
        self.rings: dict[str, Ring] = {}
        self.external: dict[int, Demand] = {}
        self.ring_bytes = 0

    def add(self, k: int) -> None:
        """Put layer k = start - 1 in front of the group."""
        net, part = self.net, self.net.parts[k]
        height = net.heights[part.root]
        demand = self.external.pop(k, None)
        leaves = net.last_reader[k] >= self.end
        if demand is None:
            done = height * np.arange(self.steps + 1) // self.steps
        else:
            done = demand.high.copy()
            if leaves:
                done[-1] = height
        if not net.divisible[k]:
            done = np.where(done > 0, height, 0)
        self.start, self.done[k] = k, done
        self._touch(part.root, part.c0, part.c1, done[:-1], done, streams=leaves)
        for read in net.reads[k]:
            size = net.heights[read.root]
            low = np.where(done[:-1] < height, read.low[np.minimum(done[:-1], height - 1)], size)
            high = np.where(done > 0, read.high[np.maximum(done, 1) - 1], 0)
            self._touch(read.root, read.c0, read.c1, low, high)
            for source in read.sources:
                self._ask(source, high, read.c0, read.c1)

    def _ask(self, source: int, high: np.ndarray, c0: int, c1: int) -> None:
        part = self.net.parts[source]
        c0, c1 = self.net.hull(part.root, max(c0, part.c0), min(c1, part.c1))
        before = self.external.get(source)
        if before is None:
            self.external[source] = Demand(high, c0, c1)
        else:
            before.high = np.maximum(before.high, high)
            before.c0, before.c1 = min(before.c0, c0), max(before.c1, c1)

    def _touch(
        self, root: str, c0: int, c1: int, low: np.ndarray, high: np.ndarray, streams: bool = False
    ) -> None:
        if root in self.kept:
            return
        c0, c1 = self.net.hull(root, c0, c1)
        ring = self.rings.get(root)
        if ring is None:
            ring = self.rings[root] = Ring(c0, c1, low, high, streams)
        else:
            ring.low, ring.high = np.minimum(ring.low, low), np.maximum(ring.high, high)
            ring.c0, ring.c1 = min(ring.c0, c0), max(ring.c1, c1)
            ring.streams = ring.streams or streams
        self.resize((root,))

    def resize(self, roots: Iterable[str]) -> None:
        """Compute the rows and bytes of these rings anew."""
        for root in roots:
            ring = self.rings[root]
            high = ring.high[1:]
            if self.slack and ring.streams:
                high = np.append(ring.high[2:], ring.high[-1])
            rows = int((np.maximum(high, ring.high[1:]) - ring.low).max())
            ring.rows = max(1, min(rows, self.net.heights[root]))
            self.ring_bytes -= ring.bytes
            ring.bytes = self.net.bytes(root, ring.c0, ring.c1, ring.rows)
            self.ring_bytes += ring.bytes

    def input_slack(self) -> int:
        """Bytes that the rings of parts from DDR need beside `ring_bytes`, for the rows that are
        loaded ahead."""
        if not self.slack:
            return 0
        extra = 0
        for root in {self.net.parts[p].root for p in self.external}:
            ring = self.rings.get(root)
            if ring is not None and not ring.streams:
                ahead = int((np.append(ring.high[2:], ring.high[-1]) - ring.low).max())
                rows = max(ring.rows, min(ahead, self.net.heights[root]))
                extra += self.net.bytes(root, ring.c0, ring.c1, rows) - ring.bytes
        return extra

    def finish(self) -> None:
        """Give the rings of parts from DDR their space for rows that are loaded ahead."""
        roots = {self.net.parts[p].root for p in self.external} & set(self.rings)
        for root in roots:
            self.rings[root].streams = True
        self.resize(sorted(roots))

    def rows_loaded(self, source: int, step: int) -> tuple[int, int]:
        """The rows of a part from DDR that a step adds to its ring; rows that no layer reads are
        left out."""
        demand = self.external[source]
        low = self.rings[self.net.parts[source].root].low[step]
        return max(int(demand.high[step]), int(low)), int(demand.high[step + 1])

    def loaded(self) -> int:
        """Bytes that come from DDR but constants."""
        net = self.net
        return sum(
            net.bytes(net.parts[p].root, d.c0, d.c1, net.heights[net.parts[p].root])
            for p, d in self.external.items()
            if net.parts[p].root not in self.kept
        )


def build(
    net: Network, start: int, end: int, steps: int, *, slack: bool, kept: Container[str] = ()
) -> Strips:
    """The strips of layers start..end."""
    strips = Strips(net, end, steps, slack=slack, kept=kept)
    for k in reversed(range(start, end)):
        strips.add(k)
    strips.finish()
    return strips


def step_counts(height: int) -> list[int]:
    """Numbers of strips that are tried for a result of so many rows, fewest first."""
    counts = []
    steps = 2
    while steps <= height // 2:
        counts.append(steps)
        steps *= 2
    most = [height // 2, height] if height > 3 else [height]
    return [*counts, *(s for s in most if s > 1 and s not in counts)]
