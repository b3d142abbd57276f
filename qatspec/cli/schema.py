"""`qatspec schema`: the JSON Schema of specs with what installed plugins register, for editors."""

from __future__ import annotations

import json
from pathlib import Path

import click

from qatspec.cli.output import echo, write_product
from qatspec.cli.outputs import write_output
from qatspec.registry import registry
from qatspec.schema import merged_schema


@click.command(name="schema", short_help="Write the JSON Schema of specs, for editors.")
@click.option("--output", type=click.Path(path_type=Path), help="Output file. Default: stdout.")
def command(output: Path | None) -> None:
    """Write the JSON Schema of the spec language with every registered name and its params.

    To use it in an editor, make `# yaml-language-server: $schema=qatspec.schema.json` the first
    line of a spec."""
    if output is None:
        write_product(schema_text())
    else:
        write_output(output, schema_text())
        echo(f"wrote {output}", err=True)


def schema_text() -> str:
    """The schema with what installed plugins register, as a file holds it."""
    names = registry()
    schema = merged_schema(
        models=[names.model(n) for n in names.names("model")],
        datasets=[names.dataset(n) for n in names.names("dataset")],
        marches=[names.march(n) for n in names.names("march")],
        qconfigs=[names.qconfig(n) for n in names.names("qconfig")],
        prepare_configs=[names.prepare_config(n) for n in names.names("prepare_config")],
        observers=[names.observer(n) for n in names.names("observer")],
    )
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
