"""Plans: the ways to compile that an `opt` level tries, and the best of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import floor, inf, log
from typing import Literal

from qatspec.backend import checks
from qatspec.backend.compiled import Compiled
from qatspec.backend.fuse import Effort, TooLarge, fuse
from qatspec.backend.groups import Groups
from qatspec.backend.network import Network
from qatspec.backend.place import place_values
from qatspec.backend.placement import Placement
from qatspec.backend.schedule import duration_us, schedule
from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS802


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """What an opt level does.

    efforts  the ways that are planned, each with the whole memory and then with less of it, `sizes`
             sizes in all: a plan for less memory can be the faster one.
    best     the plan with the lowest modelled latency, the one that moves fewest bytes, or of those
             whose latencies differ by less than half a percent the one that moves fewest bytes.
    """

    efforts: tuple[Effort, ...]
    sizes: int = 1
    best: Literal["latency", "traffic", "both"] = "both"


_ALONE = Effort(depth=2, fuse=False)
_FUSED = Effort(depth=2)
_LEAST_TRAFFIC = Effort(depth=2, traffic=1.0)
_FASTEST = Effort(depth=2, traffic=0.0)
LEVELS: dict[str, Level] = {
    "O0": Level(efforts=(Effort(depth=1, fuse=False),)),
    "O1": Level(efforts=(_ALONE,)),
    "O2": Level(efforts=(_FUSED, _ALONE), sizes=16),
    "O3": Level(efforts=(_FUSED, _LEAST_TRAFFIC, _FASTEST, _ALONE), sizes=16, best="latency"),
    "ddr": Level(efforts=(_LEAST_TRAFFIC, _FUSED), best="traffic"),
    "fast": Level(efforts=(_FASTEST, _FUSED), sizes=16, best="latency"),
    "balance": Level(efforts=(_FUSED,), sizes=2),
}

#: Logarithm of the ratio of latencies that count as alike.
_ALIKE = 0.005

#: Smaller sizes are not tried where one is slower than the best by this factor.
_HOPELESS = 1.1

#: A plan that takes a part of the memory is the plan for every smaller memory down to so many times
#: that part: what was chosen fits there too, what was not chosen is no better with less memory, and
#: constants are loaded in one piece where twice their bytes are free.
_SPARE = 2

#: Shares of a size that are planned with: what does not fit by sum of bytes alone may fail to fit
#: as whole pieces, then a smaller plan is made.
_SHARES = (1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5)


def cheapest(
    net: Network, opt: str, cores: int, compiled: Callable[[Placement, int], Compiled]
) -> Compiled:
    """The best plan of an opt level.

    cores     the most cores that a frame is split over. The plans for each number of cores are
              compared as an opt level asks, and of their best ones the fastest is taken, the one
              for fewer cores where two are as fast: more cores are never slower.
    compiled  the command stream of a placement on so many cores.

    Raises DiagnosticError QS802 with every layer that cannot fit.
    """
    search = _Search(net, LEVELS[opt], compiled)
    chosen: Compiled | None = None
    least = inf
    for used in range(1, cores + 1):
        latency, plan = search.best(used)
        if plan is None:
            raise _too_large(search.groups)
        if latency < least:
            least, chosen = latency, plan
    assert chosen is not None
    return chosen


class _Search:
    """The plans of one level. Placements are made once for all numbers of cores."""

    def __init__(
        self, net: Network, level: Level, compiled: Callable[[Placement, int], Compiled]
    ) -> None:
        self.net, self.level, self.groups, self.compiled = net, level, Groups(net), compiled
        self._placed: dict[tuple[Effort, int], tuple[Placement | None, bool]] = {}
        if checks.enabled():
            checks.check_views(net)

    def best(self, cores: int) -> tuple[float, Compiled | None]:
        """The best plan on so many cores and its latency in us; None where a layer fits in no
        way."""
        level, hardware = self.level, self.net.target.hardware
        best: tuple[float, float] | None = None
        chosen: Compiled | None = None
        fastest, least = inf, inf
        for effort in level.efforts:
            enough = inf
            for size in _sizes(hardware.onchip_bytes)[: level.sizes]:
                if size >= enough:
                    continue  # the plan would be the one before
                placed, plainly = self._fitting(effort, size)
                if placed is None:
                    break
                enough = _SPARE * placed.onchip_bytes if plainly else inf
                candidate = self.compiled(placed, cores)
                events = schedule(candidate)
                if checks.enabled():
                    checks.check_schedule(events, candidate)
                    checks.check_cost(events, candidate)
                traffic = sum(event.moved for event in events)
                latency = duration_us(events, candidate)
                fastest = min(fastest, latency)
                cost = {
                    "latency": (latency, traffic),
                    "traffic": (traffic, latency),
                    "both": (float(floor(log(latency) / _ALIKE)), traffic),
                }[level.best]
                if best is None or cost < best:
                    best, chosen, least = cost, candidate, latency
                slow = latency > _HOPELESS * fastest
                if slow or traffic / hardware.ddr_bytes_per_us >= fastest:
                    break  # with less memory more is moved
        return least, chosen

    def _fitting(self, effort: Effort, size: int) -> tuple[Placement | None, bool]:
        key = effort, size
        if key not in self._placed:
            self._placed[key] = _fitting(self.groups, effort, size)
        return self._placed[key]


def _sizes(onchip: int) -> list[int]:
    """The whole memory, then powers of two and the sizes half way between them."""
    steps = [size for power in range(10, 40) for size in (2 << power, 3 << power)]
    return [onchip, *(size for size in reversed(steps) if size < onchip)]


def _fitting(groups: Groups, effort: Effort, size: int) -> tuple[Placement | None, bool]:
    """A placement within `size` bytes, without double buffering where memory is too short, and
    whether it is the first one that was tried."""
    plainly = True
    for tried in _depths(effort):
        for share in _SHARES:
            budget = int(size * share)
            try:
                cut = fuse(groups, budget, tried)
                placed = place_values(groups.net, cut, budget, tried)
            except TooLarge:
                break
            if placed.onchip_bytes <= size:
                if checks.enabled():
                    checks.check_groups(cut, groups.net)
                    checks.check_placement(placed, groups.net, size)
                    checks.check_tiles(placed, groups.net)
                return placed, plainly
            plainly = False
        plainly = False
    return None, False


def _depths(effort: Effort) -> Iterator[Effort]:
    for depth in range(effort.depth, 0, -1):
        yield Effort(depth=depth, fuse=effort.fuse, traffic=effort.traffic)


def _too_large(groups: Groups) -> DiagnosticError:
    """QS802 for every layer whose smallest tile is larger than the memory."""
    net = groups.net
    onchip = net.target.hardware.onchip_bytes
    layers = [(0, onchip)]
    try:
        fuse(groups, onchip, Effort(depth=1, fuse=False))
    except TooLarge as problem:
        layers = problem.layers
    return DiagnosticError(
        [
            QS802.diagnostic(
                f"`{net.layers[k].name}` does not fit the on-chip memory: its smallest tile "
                f"needs {needed} bytes, {onchip} are left",
                help="make the layer smaller: fewer channels, a smaller input"
                + (f"; or a smaller `batch` than {net.frames}" if net.frames > 1 else ""),
                at=net.layers[k].ops[0].origin.rule or None,
            )
            for k, needed in layers
        ]
    )
