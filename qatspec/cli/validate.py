"""`qatspec validate`: everything that can be said of a spec without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import is_text, show
from qatspec.diag import DiagnosticError
from qatspec.spec import Spec, load, mend, warnings


@click.command(name="validate", short_help="Check a spec without running it.")
@options.spec
@options.overrides
@options.allow_code
@click.option(
    "--fix", is_flag=True, help="Mend what is sure, in the files themselves, then check again."
)
def command(spec: Path, overrides: tuple[str, ...], allow_code: bool, fix: bool) -> None:
    """Check SPEC and print what is wrong with it, each with file, line and the way out.

    Exit code 0: it can run (warnings included, unless --strict); 1: it cannot. With --fix, sure
    mends (a misspelt key or name, a chip for its march, a number in quotes) are written into SPEC
    and the files that it extends.
    """
    if fix:
        for edit, title in mend(spec, overrides, allow_code=allow_code):
            click.echo(f"{edit.span.file}:{edit.span.line}:{edit.span.col}: {title}", err=True)
    loaded = _checked(spec, overrides, allow_code)
    if is_text():
        stages = ", ".join(loaded.stages)
        click.echo(f"{spec}: ok ({loaded.model.type} for {loaded.march}: {stages})")


def _checked(path: Path, overrides: Sequence[str], allow_code: bool) -> Spec:
    loaded = load(path, overrides, allow_code=allow_code)
    found = warnings(loaded)
    if any(d.severity == "error" for d in found):
        raise DiagnosticError(found, loaded.document.texts)
    show(found, loaded.document.texts)
    return loaded
