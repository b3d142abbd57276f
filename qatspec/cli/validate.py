"""`qatspec validate`: everything that can be said of a spec without torch."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import is_text, show
from qatspec.diag import DiagnosticError
from qatspec.spec import load, warnings


@click.command(name="validate", short_help="Check a spec without running it.")
@options.spec
@options.overrides
@options.allow_code
def command(spec: Path, overrides: tuple[str, ...], allow_code: bool) -> None:
    """Check SPEC and print what is wrong with it, each with file, line and the way out.

    Exit code 0: it can run (warnings included, unless --strict); 1: it cannot.
    """
    loaded = load(spec, overrides, allow_code=allow_code)
    found = warnings(loaded)
    if any(d.severity == "error" for d in found):
        raise DiagnosticError(found, loaded.document.texts)
    show(found, loaded.document.texts)
    if is_text():
        stages = ", ".join(loaded.stages)
        click.echo(f"{spec}: ok ({loaded.model.type} for {loaded.march}: {stages})")
