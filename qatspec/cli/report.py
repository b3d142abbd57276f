"""`qatspec report`: work directories as one self-contained HTML page."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from qatspec.cli import options
from qatspec.cli.held import Held, hold_summary, stale_option
from qatspec.cli.output import echo, show
from qatspec.cli.outputs import is_stdout, write_output
from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS980
from qatspec.page import demand_packages
from qatspec.render import clean, clean_file

if TYPE_CHECKING:
    from qatspec.report.gathered import Run
    from qatspec.report.measured import Measured
    from qatspec.report.page import Section
    from qatspec.spec import Spec


@click.command(name="report", short_help="Write a work directory's results as one HTML page.")
@click.argument(
    "workdirs", metavar="WORKDIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Output file, or - for stdout. Default: report.html in the first WORKDIR.",
)
@click.option(
    "--images",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="Number of images of data.val that the model is run on, for noise, histograms, pictures "
    "and classes. With 0 the model is not run.",
)
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    help="Spec of the results, if it is no longer where the run read it. Fail if the results were "
    "made with settings that differ from it.",
)
@click.option(
    "--card",
    is_flag=True,
    help="Write a model card in Markdown instead. Default file: MODEL_CARD.md in WORKDIR.",
)
@options.overrides
@stale_option
@options.allow_code
def command(
    workdirs: tuple[Path, ...],
    output: Path | None,
    images: int,
    spec: Path | None,
    card: bool,
    overrides: tuple[str, ...],
    stale: bool,
    allow_code: bool,
) -> None:
    """Write the results of WORKDIR as one HTML page that needs no other file and no network. With
    several, the page shows them side by side.

    The page shows the last run: a verdict, curves, every quantized module with its noise and range,
    histograms, the graph, predictions in float beside those in integers, the modelled timeline, the
    resolved spec, and the command that makes it again. If the results are no longer those of that
    run, or with --spec not those of the spec, an error lists the differences.
    """
    from qatspec.report.gathered import gather_all
    from qatspec.report.page import render

    if spec is not None and len(workdirs) > 1:
        raise click.UsageError("--spec is for one WORKDIR")
    if card and len(workdirs) > 1:
        raise click.UsageError("--card is for one WORKDIR")
    if not card:
        demand_packages("jinja2", "vl_convert", "grandalf")
    for workdir in workdirs:
        hold_summary(workdir, stale=stale)
    if card:
        _write_card(workdirs[0], output)
        return
    load = partial(_load, spec, overrides, allow_code)
    sections = [_section(run, load, images, spec, stale) for run in gather_all(workdirs)]
    target = output or workdirs[0] / "report.html"
    write_output(target, clean_file(render(sections)))
    if not is_stdout(target):
        echo(str(target))


def _write_card(workdir: Path, output: Path | None) -> None:
    from qatspec.report.card import card
    from qatspec.report.gathered import gather

    target = output or workdir / "MODEL_CARD.md"
    write_output(target, clean(card(gather(workdir))))
    if not is_stdout(target):
        echo(str(target))


def _load(spec: Path | None, overrides: tuple[str, ...], allow_code: bool, run: Run) -> Spec:
    """The spec that was given, or the one that the run read. Raises DiagnosticError QS980."""
    recorded = run.summary["spec"]
    smoke = recorded.get("smoke", False)
    if spec is not None:
        return options.load(spec, overrides, allow_code, smoke=smoke)
    if "path" not in recorded:
        raise QS980.error(
            f"the summary of `{run.workdir}` does not record its spec",
            help="name it with --spec SPEC",
        )
    values = (*recorded["overrides"], *overrides)
    return options.load(Path(recorded["path"]), values, allow_code, smoke=smoke)


def _section(
    run: Run, load: Callable[[Run], Spec], images: int, spec: Path | None, stale: bool
) -> Section:
    """A run as the page shows it. Where no spec was given and the model cannot be run, a warning
    and the page say why."""
    from qatspec.backend.chip import open_chip
    from qatspec.report.page import Section

    bins = [run.workdir / a["path"] for a in run.summary["artifacts"] if a["kind"] == "bin"]
    chip = open_chip(bins[0]) if bins else None
    section = Section(run=run, chip=chip)
    if spec is None and images == 0:
        return section
    try:
        loaded = load(run)
        with loaded.document.located():
            of_chosen = options.chosen(loaded, run.workdir)
            measured = _measure(loaded, run, images, spec, stale)
    except DiagnosticError as error:
        if spec is not None:
            raise
        show([QS980.warning(
            f"the page of `{run.workdir}` has no measurements: {error.diagnostics[0].message}",
            help=error.diagnostics[0].help or "name the spec with --spec SPEC",
        )])  # fmt: skip
        return Section(run=run, chip=chip, unmeasured=error.diagnostics[0].message)
    return Section(
        run=run,
        chip=chip,
        measured=measured,
        location_of=lambda pointer: options.short_location(
            options.spec_location(of_chosen, pointer)
        ),
    )


def _measure(
    loaded: Spec, run: Run, images: int, spec: Path | None, stale: bool
) -> Measured | None:
    """Run the quantized model; None where there is none, or no image is asked for."""
    from qatspec.report.measured import measure

    smoke = run.summary["spec"].get("smoke", False)
    held = Held(loaded, run.workdir, stale=stale, smoke=smoke)
    for stage in loaded.stages if spec is not None else ():
        held.in_place(stage)
    made = run.summary["metrics"]
    quantized = [stage for stage in ("qat", "calibration") if stage in made]
    if not images or not quantized:
        return None
    context = options.context(loaded, run.workdir, device="cpu", limit=images, locate=held.folder)
    results = [result for result in ("float", "integer") if result in made]
    return measure(context, quantized[0], results, images)
