"""The model of time against published times, and the choice of its constants.

A row is modelled by compiling its net and reading the latency of the compiled file. Constants are
chosen by coordinate descent on the rows that are even (`Row.fits`): one figure after the other is
raised and lowered by a factor, and what lowers the mean error of those rows is kept.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qatspec.api import Target, assemble, perf
from qatspec_horizon.published.table import NETS, Row


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A row with its modelled time (ms) and traffic (MiB)."""

    row: Row
    ms: float
    ddr_mib: float

    @property
    def error(self) -> float:
        """Logarithm of modelled over published time."""
        return math.log(self.ms / self.row.ms)

    @property
    def percent(self) -> float:
        """The error in percent of the published time."""
        return 100 * (math.exp(self.error) - 1)


def changed(target: Target, figures: Mapping[str, float]) -> Target:
    """`target` with other figures of its hardware, or of the CPU beside it ("host.start_us").
    Raises TypeError for an unknown one."""
    chip: dict[str, Any] = {n: v for n, v in figures.items() if not n.startswith("host.")}
    beside: dict[str, Any] = {n[5:]: v for n, v in figures.items() if n.startswith("host.")}
    host = replace(target.host, **beside) if target.host and beside else target.host
    return replace(target, hardware=replace(target.hardware, **chip), host=host)


def score(
    rows: Iterable[Row], opt: str, figures: Mapping[str, float] | None = None
) -> Iterator[Scored]:
    """Every row with its modelled time at an opt level. figures: in the place of the march's."""
    modelled: dict[tuple[str, float], tuple[float, float]] = {}
    for row in rows:
        target = changed(row.machine(), figures or {})
        key = row.net, target.hardware.clock_mhz
        if key not in modelled:
            summary = perf(assemble(NETS[row.net](), target, opt=opt, verify=False))["summary"]
            modelled[key] = summary["latency (ms)"], summary["DDR megabytes per frame"]
        ms, ddr = modelled[key]
        yield Scored(row=row, ms=ms, ddr_mib=ddr)


def sizes(scored: Iterable[Scored]) -> list[float]:
    """The errors in percent, without sign, from the smallest."""
    return sorted(100 * (math.exp(abs(s.error)) - 1) for s in scored)


def band(scored: Sequence[Scored]) -> str:
    """The error of rows in words."""
    errors = sizes(scored)
    return f"{len(errors)} rows: {statistics.median(errors):.1f} % median, {errors[-1]:.0f} % worst"


def fit(
    loss: Callable[[Mapping[str, float]], float],
    start: Mapping[str, float],
    factors: Sequence[float] = (1.25, 1.1),
    report: Callable[[str, float, float], None] = lambda name, value, error: None,
) -> dict[str, float]:
    """The figures with the least loss that steps by these factors reach from `start`, one figure at
    a time, until no step of the last factor helps. Figures that are integers stay integers."""
    figures, least = dict(start), loss(start)
    for factor in factors:
        moved = True
        while moved:
            moved = False
            for name in figures:
                for value in (figures[name] * factor, figures[name] / factor):
                    integer = isinstance(start[name], int)
                    tried = {**figures, name: round(value) if integer else value}
                    error = loss(tried)
                    if error < least - 1e-6:
                        figures, least, moved = tried, error, True
                        report(name, tried[name], error)
                        break
    return figures
