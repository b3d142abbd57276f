"""What several commands take and do alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli.output import echo, show
from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.words import suggest

if TYPE_CHECKING:
    from qatspec.spec import Spec
    from qatspec.stages import Context

spec = click.argument("spec", type=click.Path(path_type=Path))
overrides = click.option(
    "--set",
    "overrides",
    metavar="KEY=VALUE",
    multiple=True,
    help="Set a value of the spec, such as vars.fast=1; may be repeated.",
)
workdir = click.option(
    "--workdir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work directory; default: runs/NAME.",
)
device = click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N."
)
nproc = click.option(
    "--nproc", type=click.IntRange(min=1), default=1, help="Training processes; default: 1."
)
allow_code = click.option(
    "--allow-code", is_flag=True, help="Load the Python files that the spec names."
)


def images(which: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """--images. which: the images that it counts, in words."""
    return click.option(
        "--images", type=click.IntRange(min=1), default=16, show_default=True, help=which
    )


def load(path: Path, overrides: Sequence[str], allow_code: bool, *, smoke: bool = False) -> Spec:
    """The spec (with what it says of smoke runs), its warnings shown. Raises DiagnosticError."""
    from qatspec.spec import load as load_spec, warnings

    loaded = load_spec(path, overrides, allow_code=allow_code, smoke=smoke)
    found = warnings(loaded)
    if any(d.severity == "error" for d in found):
        raise DiagnosticError(found, loaded.document.texts)
    if found:
        show(found, loaded.document.texts)
    return loaded


def check_data(spec: Spec) -> None:
    """Show what the data sets say without being opened. Raises DiagnosticError for errors."""
    from qatspec.plan import data_findings

    found = data_findings(spec)
    if any(d.severity == "error" for d in found):
        raise DiagnosticError(found, spec.document.texts)
    if found:
        show(found, spec.document.texts)


def warn(spec: Spec, found: Diagnostic) -> None:
    """Show a diagnostic with the line of the spec that it speaks of, and go on."""
    show(spec.document.resolve([found]), spec.document.texts)


def quantized_stage(spec: Spec, asked: str | None) -> str:
    """The stage whose prepared model a command looks at: the one asked for, else the last one.
    Raises UsageError where the spec has none."""
    known = [s for s in ("calibration", "qat") if s in spec.stages]
    if asked is not None and asked not in known:
        raise click.UsageError(f"no stage `{asked}` prepares modules; {suggest(asked, known)}")
    if not known:
        raise click.UsageError("the spec has neither calibration nor qat: nothing is quantized")
    return asked or known[-1]


def spec_location(spec: Spec, pointer: str) -> str:
    """file:line of a pointer into the spec, "-" for none."""
    if not pointer:
        return "-"
    span = spec.document.span(pointer)
    return f"{span.file}:{span.line}"


def short_location(location: str) -> str:
    """The last part of a path with its line: for tables."""
    return location.rpartition("/")[2]


def default_workdir(spec: Spec) -> Path:
    """Where a spec's results go unless --workdir says otherwise."""
    return Path("runs") / spec.name


def context(
    spec: Spec,
    workdir: Path | None,
    *,
    folder: Path | None = None,
    device: str = "auto",
    limit: int | None = None,
    report: Callable[[str, Mapping[str, Any]], None] | None = None,
    locate: Callable[..., Path] | None = None,
) -> Context:
    """The surroundings of a stage for a command that works outside a plan. locate: where the
    results of a stage lie (see `Held.folder`)."""
    from qatspec.stages import Context
    from qatspec.train.process import make_repeatable, pick_device

    def report_warnings(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "log" and "diagnostic" in data:
            warn(spec, data["diagnostic"])
        elif kind == "log":
            echo(data["message"], err=True)

    workdir = workdir or default_workdir(spec)
    return Context(
        spec=spec,
        stage="",
        workdir=workdir,
        folder=folder or workdir,
        source=None,
        digests={},
        device=pick_device(device),
        seed=make_repeatable(spec.seed, ""),
        limit=limit,
        report=report or report_warnings,
        locate=locate,
    )
