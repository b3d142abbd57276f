"""Fusing: the program is cut into groups of consecutive layers, such that the modelled cost of
what passes through DDR is lowest. Dynamic programming over all cuts."""

from __future__ import annotations

from bisect import insort
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from operator import neg

from qatspec.backend.groups import Groups
from qatspec.backend.tile import hold, passes

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


def fuse(groups: Groups, budget: int, effort: Effort) -> list[Group]:
    """Cut the layers into groups within `budget` bytes on chip. Raises TooLarge."""
    net = groups.net
    count = len(net.layers)
    search = _Search(groups, budget, effort)
    best = [0.0] + [inf] * count
    choice: list[Group | None] = [None] * (count + 1)

    def offer(start: int, end: int, mode: str, cost: float, steps: int = 1) -> None:
        total = best[start] + cost
        if total < best[end] - 1e-9:
            best[end] = total
            choice[end] = Group(start=start, end=end, mode=mode, steps=steps)

    by_layer = [search.layer_by_layer(start) for start in range(count)]
    failed = []
    for end in range(1, count + 1):
        if net.layers[end - 1].host:
            moved = net.part_bytes(end - 1)
            cost = search.cost(end - 1, end, moved, moved)
            offer(end - 1, end, "host", cost)
            continue
        for start in range(end):
            costs = by_layer[start]
            if end - start <= len(costs):
                offer(start, end, "whole", costs[end - start - 1])
        for start, steps, cost in search.strips(end):
            offer(start, end, "strips", cost, steps)
        if not by_layer[end - 1] and end - 1 not in search.once:
            in_passes, least = passes(net, end - 1, budget, effort.depth)
            if in_passes is not None:
                cost = search.cost(
                    end - 1, end, in_passes.traffic, in_passes.traffic / (in_passes.steps + 1)
                )
                offer(end - 1, end, "passes", cost)
            elif choice[end] is None:
                failed.append((end - 1, least))
                best[end] = best[end - 1]
                choice[end] = Group(start=end - 1, end=end, mode="passes")
    if failed:
        raise TooLarge(failed)
    chosen: list[Group] = []
    end = count
    while end:
        last = choice[end]
        assert last is not None
        chosen.append(last)
        end = last.start
    return chosen[::-1]


class _Search:
    """The cost of every group that fits."""

    def __init__(self, groups: Groups, budget: int, effort: Effort) -> None:
        self.groups, self.net, self.budget, self.effort = groups, groups.net, budget, effort
        net = groups.net
        start = net.target.hardware.start_overhead_us
        compute = [net.compute_us(k) + start for k in range(len(net.layers))]
        self.compute = list(accumulate(compute, initial=0.0))
        self.once: set[int] = set()  # layers that fit alone with nothing loaded twice

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
        costs: list[float] = []
        for group in self.groups.layer_by_layer(start, self.effort.depth, self.effort.fuse):
            if group.bytes > self.budget:
                break
            end = start + len(costs) + 1
            costs.append(self.cost(start, end, group.moved + group.constants, group.moved / 2))
        return costs

    def strips(self, end: int) -> list[tuple[int, int, float]]:
        """The groups that end at `end`, run in strips: their start, steps and cost."""
        net, depth = self.net, self.effort.depth
        tried = dict(self.groups.strips(end, depth, self.effort.fuse))
        stored, constants, guard = 0, 0, 0
        sizes: list[int] = []  # of the constants, from the largest
        groups = []
        for start in range(end - 1, -1, -1):
            index = end - 1 - start
            constants += net.const_bytes(start)
            insort(sizes, net.const_bytes(start), key=neg)
            guard = max(guard, depth * net.const_bytes(start, net.smallest_chunk(start)))
            if net.last_reader[start] >= end:
                stored += net.part_bytes(start)
            best: tuple[int, int, float] | None = None
            for steps, needs in list(tried.items()):
                if index >= len(needs) or needs[index].rings + min(constants, guard) > self.budget:
                    del tried[steps]
                    continue
                space = self.budget - needs[index].rings - needs[index].ahead
                if space < min(constants, guard):
                    continue
                weights = constants
                if constants > space:
                    _, left = hold(sizes, space - guard)
                    kept = space - guard - left
                    weights = kept + steps * (constants - kept)
                if start == end - 1 and weights == constants:
                    self.once.add(start)
                moved = needs[index].loaded + stored
                cost = self.cost(start, end, moved + weights, moved / steps / 2)
                cost += _COMMAND_US * steps * (end - start)
                if best is None or cost < best[2] - 1e-9:
                    best = start, steps, cost
            if not tried:
                break
            if best is not None:
                groups.append(best)
        return groups
