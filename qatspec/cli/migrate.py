"""`qatspec migrate`: a spec in the newest version of the language."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo
from qatspec.schema import VERSION
from qatspec.spec import migrate


@click.command(name="migrate", short_help="Bring a spec to the newest version of the language.")
@options.spec
def command(spec: Path) -> None:
    """Edit SPEC, and the files that it extends, to the newest version of the spec language."""
    was, edits = migrate(spec)
    if was == VERSION:
        echo(f"{spec}: version {was} is the newest; nothing to do")
        return
    for edit in edits:
        line = f"{edit.span.file}:{edit.span.line}:{edit.span.col}: `{edit.text}`"
        echo(line, err=True, wrap=False)
    echo(f"{spec}: version {was} -> {VERSION}, {len(edits)} edits")
