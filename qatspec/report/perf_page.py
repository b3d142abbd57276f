"""The page of one compiled file: timeline, memory, roofline, layers, and what leaves the chip."""

from __future__ import annotations

from qatspec.backend import perf
from qatspec.backend.perf import timing
from qatspec.program import Artifact
from qatspec.report.chip import chip_of
from qatspec.report.chip_charts import of_chip
from qatspec.report.page import Charts, render_template


def render_perf(artifact: Artifact) -> str:
    """The text of the page, self-contained: it needs no network.

    Raises DiagnosticError: QS805 where the march has no model of time, QS811 for a damaged file,
    QS921 without jinja2 or vl-convert.
    """
    chip, summary = chip_of(timing(artifact)), perf(artifact)["summary"]
    drawn = Charts()
    return render_template(
        "perf.html.jinja",
        drawn,
        chip=chip,
        summary=summary,
        figures=drawn.add(of_chip(chip)),
        scalars={k: v for k, v in summary.items() if isinstance(v, str | int | float)},
        host_parts=summary["CPU parts"][1:],
    )
