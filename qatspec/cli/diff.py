"""`qatspec diff`: two specs by what their plans mean."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, echo_json, settings
from qatspec.plan import diff, diff_data, diff_text, resolve


@click.command(name="diff", short_help="Compare the plans of two specs by meaning.")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@options.overrides
@options.allow_code
def command(first: Path, second: Path, overrides: tuple[str, ...], allow_code: bool) -> None:
    """Compare FIRST and SECOND by what would run: which steps give the same bytes, and for the
    others every value that differs, with its place in both files. Order of keys, comments, how
    values are named or split over files, and what cannot change a result do not count. --set
    applies to both.
    """
    plans = [resolve(options.load(path, overrides, allow_code)) for path in (first, second)]
    found = diff(*plans)
    if settings().format == "json":
        echo_json(diff_data(found))
    else:
        echo(diff_text(found))
