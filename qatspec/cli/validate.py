"""`qatspec validate`: every check of a spec that needs no torch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import echo, is_text, show
from qatspec.diag import Diagnostic, DiagnosticError, Note
from qatspec.plan import data_findings, rule_warnings
from qatspec.spec import Spec, fix_files, load, warnings


@click.command(name="validate", short_help="Check specs without running them.")
@click.argument(
    "specs", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="SPEC..."
)
@options.overrides
@options.workdir
@options.allow_code
@click.option(
    "--fix",
    is_flag=True,
    help="Apply every fix that needs no decision to the files, then check again.",
)
@click.option(
    "--without-data",
    is_flag=True,
    help="Do not look for data sets, weights and variables of the environment, which a machine for "
    "CI does not have.",
)
def command(
    specs: tuple[Path, ...],
    overrides: tuple[str, ...],
    workdir: Path | None,
    allow_code: bool,
    fix: bool,
    without_data: bool,
) -> None:
    """Check each SPEC and print each problem with its file, its line and a fix.

    Exit code 0: every SPEC can run (warnings do not count, except with --strict). Exit code 1: one
    cannot. --fix edits SPEC and the files that it extends where only one fix is possible: a
    misspelt key or name, a chip in place of its march, a number in quotes. --format sarif prints
    one log for code scanning.
    """
    diagnostics: list[Diagnostic] = []
    texts: dict[str, str] = {}
    passed: list[str] = []
    for spec in specs:
        if fix:
            for edit, title in fix_files(spec, overrides, allow_code=allow_code):
                echo(f"{edit.span.file}:{edit.span.line}:{edit.span.col}: {title}", err=True)
        try:
            loaded = load(spec, overrides, allow_code=allow_code, allow_unset=without_data)
            of_rules, known = rule_warnings(workdir or options.default_workdir(loaded), loaded)
        except DiagnosticError as error:
            diagnostics += error.diagnostics
            texts |= error.texts
            continue
        texts |= loaded.document.texts
        problems = (*warnings(loaded), *loaded.document.resolve(of_rules))
        problems += () if without_data else data_findings(loaded)
        if loaded.document.data.get("smoke"):
            problems += _of_smoke(spec, overrides, allow_code, without_data)
        diagnostics += problems
        if not any(d.severity == "error" for d in problems):
            passed.append(_summary(spec, loaded, known))
    if is_text():
        for line in passed:
            echo(line)
    if any(d.severity == "error" for d in diagnostics):
        raise DiagnosticError(diagnostics, texts)
    show(diagnostics, texts)


def _of_smoke(
    path: Path, overrides: tuple[str, ...], allow_code: bool, allow_unset: bool
) -> tuple[Diagnostic, ...]:
    """What refuses the spec with the changes of its `smoke`."""
    try:
        load(path, overrides, allow_code=allow_code, allow_unset=allow_unset, smoke=True)
    except DiagnosticError as error:
        note = Note("this is the spec as `run --smoke` reads it")
        return tuple(replace(d, notes=(*d.notes, note)) for d in error.diagnostics)
    return ()


def _summary(path: Path, spec: Spec, known: bool) -> str:
    """What is said of a spec that can run. known: the ops that its rules match are recorded."""
    line = f"{path}: ok ({spec.model.type} for {spec.march}: {', '.join(spec.stages)})"
    unknown = f"\nwhat its rules match is not yet known: run `qatspec check {path}`"
    return line if known else line + unknown
