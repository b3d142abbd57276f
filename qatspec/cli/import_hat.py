"""`qatspec import-hat`: write the spec that says what a config of HAT says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from qatspec.cli.output import echo, show
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS906, QS971
from qatspec.files import encoded, write_file
from qatspec.hat import import_config
from qatspec.plan import data_findings
from qatspec.spec import fix_files, load, warnings


@click.command(name="import-hat", short_help="Write the spec that a config of HAT amounts to.")
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG.py")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Output file. Default: CONFIG.yaml in the current folder.",
)
@click.option("--march", help="March of the spec. Default: the config's, or bernoulli2.")
def command(config: Path, output: Path | None, march: str | None) -> None:
    """Read CONFIG.py, a config of Horizon's HAT, and write a spec that says the same.

    The config is not executed and needs neither HAT nor torch: literals, dictionaries, names and
    simple expressions are evaluated from its text. Every part that the spec does not carry is
    reported with its line. What the config does not say is filled in, and marked by a comment in
    the spec. Dictionaries that lack commas, colons or quotes, as in the community tutorial, are
    read too. Exit code 1: the spec is written, and `validate` refuses it for the reasons printed.
    """
    target = output or Path(f"{config.stem}.yaml")
    if target.exists():
        raise DiagnosticError(_there(target))
    imported = import_config(config, march)
    write_file(target, encoded(imported.text))
    show(imported.findings, imported.texts)
    for edit, title in fix_files(target):
        echo(f"{edit.span.file}:{edit.span.line}:{edit.span.col}: {title}", err=True)
    left = sum(d.code == QS971 for d in imported.findings)
    echo(f"wrote {target}; parts not carried: {left}, filled in: {len(imported.missing)}")
    loaded = load(target)
    # the machine that imports need not be the one that has the data
    of_data = (replace(d, severity="warning") for d in data_findings(loaded))
    show((*warnings(loaded), *of_data), loaded.document.texts)
    echo(f"next: qatspec run --smoke {target}", wrap=False)


def _there(target: Path) -> Diagnostic:
    return QS906.diagnostic(
        f"`{target}` is already there",
        help="move it away, or choose another file with --output",
        span=Span(file=str(target)),
    )
