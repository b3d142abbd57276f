"""Prints every published row beside the modelled time, or fits the constants of a march.

    python -m qatspec_horizon.published --march bayes-e
    python -m qatspec_horizon.published --march bayes-e --rows fit --fit ddr_bytes_per_us

A row counts with a static estimate or the time of the chip alone, else with cores / saturated FPS;
a net that the CPU runs a part of counts with the time of one frame. `--fit` moves figures on the
rows marked fit alone, with the commands of each net as they are, and then compiles the nets again;
without names it moves every figure that the march calls fitted. It takes minutes.
"""

from __future__ import annotations

import argparse
import math
import statistics
import sys
from collections.abc import Mapping
from functools import partial

from qatspec_horizon.published.fitting import (
    Planned,
    Refused,
    Scored,
    band,
    fit,
    score,
    sizes,
)
from qatspec_horizon.published.table import MARCHES, Row, figures_digest, rows


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(prog="qatspec_horizon.published", description=__doc__)
    parser.add_argument("--march", action="append", choices=list(MARCHES))
    parser.add_argument("--opt", default="balance")
    parser.add_argument("--rows", choices=["all", "fit", "test"], default="all")
    parser.add_argument("--only", nargs="*", default=[""], help="words of the models' names")
    parser.add_argument("--set", nargs="*", default=[], metavar="FIGURE=VALUE")
    parser.add_argument("--fit", nargs="*", metavar="FIGURE")
    parser.add_argument("--markdown", action="store_true", help="rows of a table for a page")
    arguments = parser.parse_args()
    figures = {name: float(text) for name, text in (s.split("=") for s in arguments.set)}
    for march in arguments.march or MARCHES:
        chosen = [
            row
            for row in rows(march)
            if arguments.rows in ("all", "fit" if row.fits else "test")
            and any(word in row.model.lower() for word in arguments.only)
        ]
        if arguments.fit is not None:
            _fit(march, [row for row in chosen if row.fits], arguments, figures)
        else:
            _report(march, chosen, arguments, figures)


def _report(
    march: str, chosen: list[Row], arguments: argparse.Namespace, figures: Mapping[str, float]
) -> None:
    every: list[Scored] = []
    if arguments.markdown and not figures:
        _say(f"Figures of `{march}`: {figures_digest(march)}")
    for scored in score(chosen, arguments.opt, figures):
        if isinstance(scored, Refused):
            _say(_refused(march, scored, arguments.markdown))
            continue
        every.append(scored)
        _say(_line(march, scored, arguments.markdown))
    for part, fits in (("fit", True), ("test", False)):
        if some := [s for s in every if s.row.fits == fits]:
            _say(f"{march}, {part} {band(some)}")
    moved = [100 * (s.ddr_mib / s.row.ddr_mib - 1) for s in every if s.row.ddr_mib]
    if moved:
        _say(f"{march}: DDR bytes against published ones: {min(moved):+.0f} to {max(moved):+.0f} %")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _line(march: str, scored: Scored, markdown: bool) -> str:
    row, part = scored.row, "fit" if scored.row.fits else "test"
    ddr = f"{scored.ddr_mib:.1f}" + (f" of {row.ddr_mib:.1f}" if row.ddr_mib else "")
    if not markdown:
        times = f"{row.ms:>9.3f}{scored.ms:>9.3f}{scored.percent:>+7.1f} %"
        return f"{row.model[:24]:<26}{part:<6}{times}  {ddr} MiB"
    cells = (march, row.model, row.target, part, f"{row.ms:.3f}", f"{scored.ms:.3f}")
    return f"| {' | '.join(cells)} | {scored.percent:+.1f} % | {ddr} |"


def _refused(march: str, refused: Refused, markdown: bool) -> str:
    row, part = refused.row, "fit" if refused.row.fits else "test"
    if not markdown:
        return f"{row.model[:24]:<26}{part:<6}{row.ms:>9.3f}  refused: {refused.reason}"
    cells = (march, row.model, row.target, part, f"{row.ms:.3f}", f"refused: {refused.reason}")
    return f"| {' | '.join(cells)} | | |"


def _fit(
    march: str, chosen: list[Row], arguments: argparse.Namespace, figures: dict[str, float]
) -> None:
    target = chosen[0].machine()
    bases = target.hardware.fitted
    names = arguments.fit or [n for n, basis in bases.items() if basis.startswith("fitted")]
    best: dict[str, float] = {
        name: getattr(target.host, name[5:])
        if name.startswith("host.")
        else getattr(target.hardware, name)
        for name in names
    }
    best |= {name: value for name, value in figures.items() if name in best}
    least = math.inf
    while True:
        planned = Planned(chosen, arguments.opt, {**figures, **best})
        error = _mean_error(planned, figures, best)
        _say(f"{march}: {len(planned.rows)} rows compiled: mean error {error:.2f} %")
        if error > least - 0.05:
            break
        least = error
        best = fit(
            partial(_mean_error, planned, figures),
            best,
            report=lambda name, value, error: _say(f"  {name} {value:g}: {error:.2f} %"),
        )
    for name, value in best.items():
        before = bases.get(name, "assumed")
        _say(f"{march}: {name} = {value:g}, fitted on {len(planned.rows)} rows (was {before})")


def _mean_error(
    planned: Planned, figures: Mapping[str, float], tried: Mapping[str, float]
) -> float:
    return statistics.mean(sizes(planned.score({**figures, **tried})))


if __name__ == "__main__":
    main()
