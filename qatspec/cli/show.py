"""`qatspec show`: a spec as one file, merged and resolved, with every default."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import write_product
from qatspec.spec import dump


@click.command(name="show", short_help="Print a spec merged, resolved and with its defaults.")
@options.spec
@options.overrides
@click.option("--places", is_flag=True, help="Print the source of each value as file:line.")
@click.option("--smoke", is_flag=True, help="Apply the `smoke` section, as `run --smoke` does.")
@options.allow_code
def command(
    spec: Path, overrides: tuple[str, ...], places: bool, smoke: bool, allow_code: bool
) -> None:
    """Print SPEC as one file: `extends` merged, variables and --set resolved, every default written
    out. The output is a spec with the same meaning, for archiving with a result or for comparison.
    """
    loaded = options.load(spec, overrides, allow_code, smoke=smoke)
    # `dump` keeps references to the environment; to replace equal words too would rename keys
    write_product(dump(loaded, places=places))
