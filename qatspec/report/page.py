"""The page of one or several runs: self-contained, so that it can be sent to a colleague."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from qatspec.backend.chip_charts import of_chip
from qatspec.page import Charts, render_template
from qatspec.report import charts, tables
from qatspec.report.gathered import Run
from qatspec.report.picture import NOISE, draw_graph

if TYPE_CHECKING:
    from qatspec.backend.chip import Chip
    from qatspec.graph import Decision
    from qatspec.report.measured import Measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A run with what was measured for the page.

    measured  None where the model was not run, and `unmeasured` says why.
    chip      None where the run has no compiled file with a model of time.
    location_of  file:line of a pointer into the spec.
    """

    run: Run
    measured: Measured | None = None
    unmeasured: str = ""
    chip: Chip | None = None
    location_of: Callable[[str], str] = lambda pointer: pointer


def render(sections: Sequence[Section]) -> str:
    """The text of the page. Raises DiagnosticError QS921 without jinja2 or vl-convert."""
    runs = [section.run for section in sections]
    drawn = Charts()
    return render_template(
        "qatspec.report",
        "page.html.jinja",
        drawn,
        runs=runs,
        sections=[_content(section, drawn, len(runs) == 1) for section in sections],
        metric_names=tables.metric_names(runs),
        results=tables.RESULTS,
        differing=tables.differing_keys(runs) if len(runs) > 1 else [],
        curves=drawn.add(charts.curves(runs)) if len(runs) > 1 else [],
        noise_colours=NOISE,
    )


def _content(section: Section, drawn: Charts, alone: bool) -> dict[str, Any]:
    run, measured, chip = section.run, section.measured, section.chip
    classes = of_classes(run, measured)
    columns, rows = tables.per_class(classes.details)
    on_chip = of_chip(chip) if chip else []
    return {
        "run": run,
        "verdict": tables.verdict(run),
        "candidate_settings": tables.settings_of_candidates(run),
        "candidate_charts": drawn.add(charts.of_candidates(run)),
        "command": command(run),
        "measured": measured,
        "unmeasured": section.unmeasured,
        "curves": drawn.add(charts.curves([run])) if alone else [],
        "modules": [asdict(m) for m in tables.modules(run, measured, chip, section.location_of)],
        "histograms": drawn.add([charts.histogram(h) for h in measured.histograms])
        if measured
        else [],
        "graph": _graph(section),
        "class_columns": columns,
        "class_rows": rows,
        "class_images": classes.images,
        "class_of_run": classes.of_run,
        "class_charts": drawn.add(charts.of_classes(classes.details, classes.names)),
        "chip": chip,
        "chip_charts": drawn.add(on_chip),
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What the page shows of each class.

    details  "float" and "integer" -> what the data set tells (Dataset.details).
    names    of the labels, in their order.
    images   examples that were judged. of_run: they are all of data.val, judged by the run.
    """

    details: Mapping[str, Mapping[str, Any]]
    names: Sequence[str]
    images: int
    of_run: bool


def of_classes(run: Run, measured: Measured | None) -> Classes:
    """What the run recorded at its own evaluations, where it did for each result; else what was
    measured for the page."""
    results = {"float", "integer"} & run.summary["metrics"].keys()
    if results and run.details.keys() == results:
        kept = {name: run.details[name] for name in ("float", "integer") if name in results}
        told = {name: one["details"] for name, one in kept.items()}
        listed = list(
            dict.fromkeys(name for one in told.values() for name in one.get("classes", {}))
        )
        return Classes(
            details=told,
            names=measured.classes if measured else listed,
            images=max(one["images"] for one in kept.values()),
            of_run=True,
        )
    details = measured.details if measured else {}
    names = measured.classes if measured else ()
    images = measured.images if measured else 0
    return Classes(details=details, names=names, images=images, of_run=False)


def _graph(section: Section) -> str:
    measured = section.measured
    if measured is None:
        return ""

    def rule(decision: Decision) -> str:
        return section.location_of(decision.rule) if decision.rule else ""

    noise = {node: layer.fake_quant.db for node, layer in measured.layers.items()}
    return draw_graph(measured.graph, section.run.summary["spec"]["name"], rule, noise=noise)


def command(run: Run) -> str:
    """The command line that makes the run again; "" for a run of an earlier version."""
    spec = run.summary["spec"]
    if "path" not in spec:
        return ""
    words = ["qatspec", "run", spec["path"]]
    words += [word for override in spec["overrides"] for word in ("--set", override)]
    if spec.get("smoke"):
        words.append("--smoke")
    workdir = str(run.workdir).removesuffix("-smoke") if spec.get("smoke") else str(run.workdir)
    return shlex.join([*words, "--workdir", workdir])
