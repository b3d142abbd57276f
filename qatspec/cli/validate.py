"""`qatspec validate`: every check of a spec that needs no torch."""

from __future__ import annotations

from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, is_text, show
from qatspec.diag import DiagnosticError
from qatspec.plan import data_findings, rule_warnings
from qatspec.spec import fix_files, load, warnings


@click.command(name="validate", short_help="Check a spec without running it.")
@options.spec
@options.overrides
@options.workdir
@options.allow_code
@click.option(
    "--fix",
    is_flag=True,
    help="Apply every fix that needs no decision to the files, then check again.",
)
def command(
    spec: Path, overrides: tuple[str, ...], workdir: Path | None, allow_code: bool, fix: bool
) -> None:
    """Check SPEC and print each problem with its file, its line and a fix.

    Exit code 0: SPEC can run (warnings do not count, except with --strict). Exit code 1: it cannot.
    --fix edits SPEC and the files that it extends where only one fix is possible: a misspelt key or
    name, a chip in place of its march, a number in quotes.
    """
    if fix:
        for edit, title in fix_files(spec, overrides, allow_code=allow_code):
            echo(f"{edit.span.file}:{edit.span.line}:{edit.span.col}: {title}", err=True)
    loaded = load(spec, overrides, allow_code=allow_code)
    of_rules, known = rule_warnings(workdir or options.default_workdir(loaded), loaded)
    diagnostics = (*warnings(loaded), *loaded.document.resolve(of_rules), *data_findings(loaded))
    if any(d.severity == "error" for d in diagnostics):
        raise DiagnosticError(diagnostics, loaded.document.texts)
    show(diagnostics, loaded.document.texts)
    if is_text():
        stages = ", ".join(loaded.stages)
        echo(f"{spec}: ok ({loaded.model.type} for {loaded.march}: {stages})")
        if not known:
            echo(f"what its rules match is not yet known: run `qatspec check {spec}`")
