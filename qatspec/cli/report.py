"""`qatspec report`: a work directory as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.held import Held, hold_summary, stale_option
from qatspec.cli.output import echo
from qatspec.cli.outputs import is_stdout, write_output
from qatspec.render import clean_file


@click.command(name="report", short_help="Write a work directory's results as one HTML page.")
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Output file, or - for stdout. Default: WORKDIR/report.html.",
)
@click.option(
    "--spec",
    type=click.Path(path_type=Path),
    help="Fail if the results were made with settings that differ from this spec.",
)
@options.overrides
@stale_option
@options.allow_code
def command(
    workdir: Path,
    output: Path | None,
    spec: Path | None,
    overrides: tuple[str, ...],
    stale: bool,
    allow_code: bool,
) -> None:
    """Write the stages, metrics, files and modelled performance of WORKDIR as one self-contained
    HTML page.

    The page shows the last run. If the results are no longer those of that run, or with --spec not
    those of SPEC, an error lists the differences.
    """
    from qatspec.report.page import report_page

    hold_summary(workdir, stale=stale)
    if spec is not None:
        loaded = options.load(spec, overrides, allow_code)
        with loaded.document.located():
            held = Held(loaded, workdir, stale=stale)
            for stage in loaded.stages:
                held.in_place(stage)
    target = output or workdir / "report.html"
    write_output(target, clean_file(report_page(workdir)))
    if not is_stdout(target):
        echo(str(target))
