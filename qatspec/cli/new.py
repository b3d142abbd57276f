"""`qatspec new`: write a spec to start from."""

from __future__ import annotations

import importlib.resources
from pathlib import Path

import click

from qatspec.cli.output import echo
from qatspec.cli.outputs import write_output
from qatspec.cli.schema import schema_text
from qatspec.diag import Diagnostic, DiagnosticError, Span

#: Where the templates, which are specs of the repository, find their schema; and copies theirs.
_SCHEMA, SCHEMA_FILE = "../schemas/qatspec-1.schema.json", "qatspec.schema.json"
TEMPLATES = importlib.resources.files("qatspec.cli") / "templates"


def names() -> list[str]:
    """The templates that ship with the package."""
    return sorted(t.name.removesuffix(".yaml") for t in TEMPLATES.iterdir())


@click.command(name="new", short_help="Write a spec to start from.")
@click.argument("template", type=click.Choice(names()))
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("specs"),
    show_default=True,
    help="Folder to write into.",
)
def command(template: str, output: Path) -> None:
    """Copy the spec TEMPLATE into a folder, ready for `qatspec run`, and beside it the JSON Schema
    from which editors complete and check it (`qatspec schema` writes it anew)."""
    target = output / f"{template}.yaml"
    text = (TEMPLATES / f"{template}.yaml").read_text("utf-8").replace(_SCHEMA, SCHEMA_FILE, 1)
    try:
        output.mkdir(parents=True, exist_ok=True)
        with target.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        raise DiagnosticError(
            Diagnostic(
                code="QS906",
                message=f"`{target}` is already there",
                help="move it away, or choose another folder with --output",
                span=Span(file=str(target)),
            )
        ) from None
    write_output(output / SCHEMA_FILE, schema_text())
    echo(f"wrote {target} and {SCHEMA_FILE} for editors; next: qatspec run {target}")
