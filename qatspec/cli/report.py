"""`qatspec report`: a work directory as one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli.output import echo


@click.command(name="report", short_help="Write a work directory's results as one HTML page.")
@click.argument("workdir", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), help="Default: WORKDIR/report.html.")
def command(workdir: Path, output: Path | None) -> None:
    """Write stages, metrics, files and modelled performance of WORKDIR as one HTML page that needs
    nothing else."""
    from qatspec.report.page import write_report

    echo(str(write_report(workdir, output or workdir / "report.html")))
