"""The model of time against published times, and the choice of its constants.

A row is modelled by compiling its net and reading the latency of the compiled file. Constants are
chosen by coordinate descent on the rows that are even (`Row.fits`): one figure after the other is
raised and lowered by a factor, and what lowers the mean error of those rows is kept. While figures
move, the commands of each net stay and are timed again (`Planned`); with the figures that this ends
at, every net is compiled again, until new commands lower the error no further.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qatspec.api import DiagnosticError, Target, Timing, assemble, perf, timing
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """A row whose net the march refuses; reason: the diagnostic that says so."""

    row: Row
    reason: str


def score(
    rows: Iterable[Row], opt: str, figures: Mapping[str, float] | None = None
) -> Iterator[Scored | Refused]:
    """Every row with its modelled time at an opt level. figures: in the place of the march's."""
    modelled: dict[tuple[str, float], tuple[float, float] | str] = {}
    for row in rows:
        target = changed(row.machine(), figures or {})
        key = row.net, target.hardware.clock_mhz
        if key not in modelled:
            try:
                artifact = assemble(NETS[row.net](), target, opt=opt, verify=False)
            except DiagnosticError as error:
                modelled[key] = error.diagnostics[0].message
            else:
                summary = perf(artifact)["summary"]
                modelled[key] = summary["latency (ms)"], summary["DDR megabytes per frame"]
        result = modelled[key]
        if isinstance(result, str):
            yield Refused(row=row, reason=result)
        else:
            yield Scored(row=row, ms=result[0], ddr_mib=result[1])


class Planned:
    """Rows with the commands of their nets, compiled once. Rows that the march refuses are left
    out.

    figures: in the place of the march's, as the nets are compiled.
    """

    def __init__(self, rows: Iterable[Row], opt: str, figures: Mapping[str, float]) -> None:
        self.rows: list[tuple[Row, tuple[str, float]]] = []
        self.timings: dict[tuple[str, float], Timing] = {}
        for row in rows:
            target = changed(row.machine(), figures)
            key = row.net, target.hardware.clock_mhz
            if key not in self.timings:
                try:
                    artifact = assemble(NETS[row.net](), target, opt=opt, verify=False)
                except DiagnosticError:
                    continue
                self.timings[key] = timing(artifact)
            self.rows.append((row, key))

    def score(self, figures: Mapping[str, float]) -> Iterator[Scored]:
        """Every row with its time under other figures, by the same commands."""
        latencies: dict[tuple[str, float], float] = {}
        for row, key in self.rows:
            if key not in latencies:
                target = changed(row.machine(), figures)
                latencies[key] = self.timings[key].under(target).latency / 1e3
            yield Scored(row=row, ms=latencies[key], ddr_mib=0.0)


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
