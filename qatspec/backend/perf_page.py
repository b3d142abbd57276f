"""The page of one compiled file: timeline, memory, roofline, layers, and what leaves the chip."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.backend.chip import chip_of
from qatspec.backend.chip_charts import of_chip
from qatspec.backend.perf import Timing
from qatspec.page import Charts, render_template


def render(summary: Mapping[str, Any], timed: Timing, *, needs_charts: bool) -> str:
    """The text of the page, self-contained: it needs no network.

    summary       result of `perf`; timed: the schedule behind it.
    needs_charts  False: without vl-convert the page is made, and says how to get its charts.

    Raises DiagnosticError QS921 without jinja2 or vl-convert.
    """
    chip, drawn = chip_of(timed), Charts()
    return render_template(
        "qatspec.backend",
        "perf.html.jinja",
        drawn,
        needs_charts=needs_charts,
        chip=chip,
        summary=summary,
        figures=drawn.add(of_chip(chip)),
        scalars={k: v for k, v in summary.items() if isinstance(v, str | int | float)},
        host_parts=summary["CPU parts"][1:],
        inputs=summary["input features"][1:],
    )
