"""Fusing: the program is cut into groups of consecutive layers, such that the modelled cost of
what passes through DDR is lowest. Dynamic programming over all cuts."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from qatspec.backend.network import Network
from qatspec.backend.strips import Strips, step_counts
from qatspec.backend.tile import arrange, passes

#: Longest group that runs in strips: longer ones hardly fit, and the search takes their square.
_LONGEST = 64
#: What a command of a group in strips counts in the search, so that strips are no thinner than
#: they must be. The model of time knows no such cost.
_COMMAND_US = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """One way to plan.

    depth     slots of streamed buffers: 1 does one thing after another, 2 is double buffering.
    fuse      layers run in groups, and values stay on chip; otherwise every value passes DDR.
    traffic   weight of the time of DDR traffic in the cost of a group, 0 to 1; the rest weighs the
              larger of traffic and compute.
    """

    depth: int
    fuse: bool = True
    traffic: float = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Layers start..end of a plan. mode: "whole" (layer by layer, each value between them on chip
    in full), "strips" (in `steps` strips), "passes" (one layer, see `tile`) or "host" (one layer on
    the CPU)."""

    start: int
    end: int
    mode: str
    steps: int = 1


class TooLarge(Exception):
    """Layers that fit in no mode: (position, bytes that the smallest way needs)."""

    def __init__(self, layers: list[tuple[int, int]]) -> None:
        super().__init__(layers)
        self.layers = layers


def fuse(net: Network, budget: int, effort: Effort) -> list[Group]:
    """Cut the layers into groups within `budget` bytes on chip. Raises TooLarge."""
    count = len(net.layers)
    search = _Search(net, budget, effort)
    best = [0.0] + [np.inf] * count
    choice: list[Group | None] = [None] * (count + 1)

    def offer(group: Group, cost: float) -> None:
        total = best[group.start] + cost
        if total < best[group.end] - 1e-9:
            best[group.end], choice[group.end] = total, group

    by_layer = [search.layer_by_layer(start) for start in range(count)]
    failed = []
    for end in range(1, count + 1):
        if net.layers[end - 1].host:
            moved = net.part_bytes(end - 1)
            cost = search.cost(end - 1, end, moved, moved)
            offer(Group(start=end - 1, end=end, mode="host"), cost)
            continue
        for start in range(end):
            costs = by_layer[start]
            if end - start <= len(costs):
                offer(Group(start=start, end=end, mode="whole"), costs[end - start - 1])
        for strips, cost in search.strips(end):
            offer(strips, cost)
        if not by_layer[end - 1] and end - 1 not in search.once:
            in_passes, least = passes(net, end - 1, budget, effort.depth)
            if in_passes is not None:
                cost = search.cost(
                    end - 1, end, in_passes.traffic, in_passes.traffic / (in_passes.steps + 1)
                )
                offer(Group(start=end - 1, end=end, mode="passes"), cost)
            elif choice[end] is None:
                failed.append((end - 1, least))
                best[end] = best[end - 1]
                choice[end] = Group(start=end - 1, end=end, mode="passes")
    if failed:
        raise TooLarge(failed)
    groups: list[Group] = []
    end = count
    while end:
        chosen = choice[end]
        assert chosen is not None
        groups.append(chosen)
        end = chosen.start
    return groups[::-1]


class _Search:
    """The cost of every group that fits."""

    def __init__(self, net: Network, budget: int, effort: Effort) -> None:
        self.net, self.budget, self.effort = net, budget, effort
        start = net.target.hardware.start_overhead_us
        compute = [net.compute_us(k) + start for k in range(len(net.layers))]
        self.compute = list(accumulate(compute, initial=0.0))
        self.longest = _LONGEST if effort.fuse else 1
        self.once: set[int] = set()  # layers that fit alone with nothing loaded twice
        self.least = [
            effort.depth * net.const_bytes(k, net.smallest_chunk(k))
            if net.const_bytes(k, net.smallest_chunk(k)) < net.const_bytes(k)
            else net.const_bytes(k)
            for k in range(len(net.layers))
        ]

    def cost(self, start: int, end: int, traffic: float, alone: float) -> float:
        """The cost of layers start..end in us. alone: bytes that overlap with no computation."""
        rate = self.net.target.hardware.ddr_bytes_per_us
        moving, weight = traffic / rate, self.effort.traffic
        compute = self.compute[end] - self.compute[start]
        return (
            weight * moving
            + (1 - weight) * (max(compute, moving) + alone / rate)
            + self.net.target.hardware.start_overhead_us / 8
        )

    def layer_by_layer(self, start: int) -> list[float]:
        """The cost of start..start + 1, start..start + 2, ..., as far as they fit."""
        net, count = self.net, len(self.net.layers)
        live = np.array(self.least[start : start + 1], float)
        spans: dict[str, tuple[int, int, int]] = {}  # root -> first position, c0, c1
        last: dict[str, int] = {}
        loads: dict[int, tuple[int, int, int]] = {}  # part -> c0, c1, bytes
        loaded = stored = constants = 0
        closing: dict[int, int] = {}
        costs: list[float] = []
        for k in range(start, min(count, start + (count if self.effort.fuse else 1))):
            if net.layers[k].host:
                break
            if k > start:
                live = np.append(live, self.least[k])
            part = net.parts[k]
            touches = [(part.root, part.c0, part.c1)]
            touches += [(r.root, r.c0, r.c1) for r in net.reads[k]]
            for root, c0, c1 in touches:
                c0, c1 = net.hull(root, c0, c1)
                height = net.heights[root]
                if root in spans:
                    first, b0, b1 = spans[root]
                    live[first - start : last[root] + 1 - start] -= net.bytes(root, b0, b1, height)
                    c0, c1 = min(c0, b0), max(c1, b1)
                else:
                    first = k
                live[first - start :] += net.bytes(root, c0, c1, height)
                spans[root], last[root] = (first, c0, c1), k
            if live.max() > self.budget:
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
            traffic = loaded + stored + constants
            costs.append(self.cost(start, k + 1, traffic, (loaded + stored) / 2))
        return costs

    def strips(self, end: int) -> list[tuple[Group, float]]:
        """The groups that end at `end`, run in strips, and their costs."""
        net, effort = self.net, self.effort
        height = net.heights[net.parts[end - 1].root]
        tried = {s: Strips(net, end, s, slack=effort.depth > 1) for s in step_counts(height)}
        stored, constants, guard = 0, 0, 0
        members: list[int] = []
        groups = []
        for start in range(end - 1, max(-1, end - 1 - self.longest), -1):
            if net.layers[start].host:
                break
            members.append(start)
            constants += net.const_bytes(start)
            guard = max(guard, effort.depth * net.const_bytes(start, net.smallest_chunk(start)))
            if net.last_reader[start] >= end:
                stored += net.part_bytes(start)
            best: tuple[Group, float] | None = None
            for steps, strips in list(tried.items()):
                strips.add(start)
                if strips.ring_bytes + min(constants, guard) > self.budget:
                    del tried[steps]
                    continue
                space = self.budget - strips.ring_bytes - strips.input_slack()
                if space < min(constants, guard):
                    continue
                weights = constants
                if constants > space:
                    arranged = arrange(net, members, steps, space, effort.depth)
                    if arranged is None:
                        continue
                    weights = arranged.traffic
                if start == end - 1 and weights == constants:
                    self.once.add(start)
                moved = strips.loaded() + stored
                cost = self.cost(start, end, moved + weights, moved / steps / 2)
                cost += _COMMAND_US * steps * len(members)
                if best is None or cost < best[1] - 1e-9:
                    best = Group(start=start, end=end, mode="strips", steps=steps), cost
            if not tried:
                break
            if best is not None:
                groups.append(best)
        return groups
