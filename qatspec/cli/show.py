"""`qatspec show`: a spec as it counts, in one piece."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.streams import write
from qatspec.render import clean
from qatspec.spec import dump


@click.command(name="show", short_help="Print a spec merged, resolved and with its defaults.")
@options.spec
@options.overrides
@click.option("--places", is_flag=True, help="Say behind each value where it came from.")
@click.option("--smoke", is_flag=True, help="As `run --smoke` takes it.")
@options.allow_code
def command(
    spec: Path, overrides: tuple[str, ...], places: bool, smoke: bool, allow_code: bool
) -> None:
    """Print SPEC as one file: what it extends merged, variables and --set resolved, every default
    written out. What is printed is a spec of the same meaning, to keep beside a result or to
    compare.
    """
    loaded = options.load(spec, overrides, allow_code, smoke=smoke)
    # `dump` keeps references to the environment; to replace equal words too would rename keys
    write(clean(dump(loaded, places=places)), nl=False)
