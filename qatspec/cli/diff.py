"""`qatspec diff`: compare the plans of two specs, or two compiled files."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.disasm import command as disasm
from qatspec.cli.output import echo, echo_json, settings
from qatspec.plan import diff, diff_data, diff_text, resolve


@click.command(name="diff", short_help="Compare two specs, or two compiled files.")
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@options.overrides
@options.allow_code
def command(first: Path, second: Path, overrides: tuple[str, ...], allow_code: bool) -> None:
    """Compare what FIRST and SECOND would run: list the steps with identical results, and for every
    other step each value that differs, with its location in both files.

    Ignored are the order of keys, comments, variables, the division into files, and values that
    cannot change a result. --set applies to both specs.

    Of two compiled files, print what `qatspec disasm FIRST.bin SECOND.bin` prints: their modelled
    figures and the commands that differ. Exit code 1: the commands differ.
    """
    if ".bin" in (first.suffix, second.suffix):
        if first.suffix != second.suffix or overrides:
            raise click.UsageError("compare two specs, or two compiled files without --set")
        click.get_current_context().invoke(disasm, file=first, other=second)
        return
    plans = [resolve(options.load(path, overrides, allow_code)) for path in (first, second)]
    difference = diff(*plans)
    if settings().format == "json":
        echo_json(diff_data(difference))
    else:
        echo(diff_text(difference))
