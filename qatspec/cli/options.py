"""Arguments, options and steps that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli.output import echo, is_text, show
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
    help="Override a value of the spec, for example vars.fast=1. Can be repeated.",
)
workdir = click.option(
    "--workdir",
    type=click.Path(file_okay=False, path_type=Path),
    help="Work directory. Default: runs/NAME.",
)
device = click.option(
    "--device", default="auto", show_default=True, help="Device: auto, cpu, cuda or cuda:N."
)
nproc = click.option(
    "--nproc",
    type=click.IntRange(min=1),
    default=1,
    help="Number of training processes on this machine. Default: 1.",
)
nnodes = click.option(
    "--nnodes",
    type=click.IntRange(min=1),
    default=1,
    help="Number of machines, each of which runs the same command. Default: 1.",
)
threads = click.option(
    "--threads",
    type=click.IntRange(min=1),
    help="Threads of each process. Default: OMP_NUM_THREADS or the cores with one process, 1 with "
    "several.",
)
allow_code = click.option(
    "--allow-code", is_flag=True, help="Load the Python files that the spec names in `plugins`."
)


candidate = click.option(
    "--candidate",
    metavar="NAME",
    help="Read the results of this candidate of a stage. Default: the one that was chosen.",
)


def images(which: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option --images. which: its help text, which says what is counted."""
    return click.option(
        "--images", type=click.IntRange(min=1), default=16, show_default=True, help=which
    )


def load(
    path: Path,
    overrides: Sequence[str],
    allow_code: bool,
    *,
    smoke: bool = False,
    without_data: bool = False,
) -> Spec:
    """Load a spec and print its warnings. smoke: apply the spec's `smoke` section. without_data:
    nothing that the spec names is opened, so a variable of the environment need not be set.

    Raises DiagnosticError."""
    from qatspec.spec import load as load_spec, warnings

    loaded = load_spec(
        path, overrides, allow_code=allow_code, smoke=smoke, allow_unset=without_data
    )
    diagnostics = warnings(loaded)
    if any(d.severity == "error" for d in diagnostics):
        raise DiagnosticError(diagnostics, loaded.document.texts)
    if diagnostics:
        show(diagnostics, loaded.document.texts)
    return loaded


def check_data(spec: Spec) -> None:
    """Print warnings about the data sets, without opening them. Raises DiagnosticError on
    errors."""
    from qatspec.plan import data_findings

    diagnostics = data_findings(spec)
    if any(d.severity == "error" for d in diagnostics):
        raise DiagnosticError(diagnostics, spec.document.texts)
    if diagnostics:
        show(diagnostics, spec.document.texts)


def warn(spec: Spec, diagnostic: Diagnostic) -> None:
    """Print a diagnostic with the line of the spec that it refers to, and continue."""
    show(spec.document.resolve([diagnostic]), spec.document.texts)


class Warnings:
    """Prints the warnings of a command's stages with the lines of the spec that they refer to. What
    an earlier stage reported with the same words, such as a rule that both calibration and qat
    have, is one line with its place."""

    def __init__(self, spec: Spec) -> None:
        self._spec = spec
        self._causes: set[tuple[str, ...]] = set()

    def __call__(self, diagnostic: Diagnostic) -> None:
        cause = (diagnostic.code, diagnostic.message, diagnostic.origin or "")
        if cause not in self._causes or not is_text():
            self._causes.add(cause)
            warn(self._spec, diagnostic)
            return
        (resolved,) = self._spec.document.resolve([diagnostic])
        if (span := resolved.span) is not None:
            line = f"{span.file}:{span.line}:{span.col}"
            echo(f"{line}: {resolved.severity}[{resolved.code}]: as above", err=True)


def quantized_stage(spec: Spec, asked: str | None) -> str:
    """The stage whose prepared model a command inspects: `asked`, or else the last such stage.

    Raises UsageError where the spec prepares no model."""
    known = [s for s in ("calibration", "qat") if s in spec.stages]
    if asked is not None and asked not in known:
        raise click.UsageError(f"no stage `{asked}` prepares modules; {suggest(asked, known)}")
    if not known:
        raise click.UsageError("the spec has neither calibration nor qat: nothing is quantized")
    return asked or known[-1]


def spec_location(spec: Spec, pointer: str) -> str:
    """file:line of a JSON pointer into the spec; "-" for an empty pointer."""
    if not pointer:
        return "-"
    span = spec.document.span(pointer)
    return f"{span.file}:{span.line}"


def short_location(location: str) -> str:
    """A location without its folders, for tables."""
    return location.rpartition("/")[2]


def default_workdir(spec: Spec) -> Path:
    """The work directory of a spec where --workdir is not given."""
    return Path("runs") / spec.name


def chosen(spec: Spec, workdir: Path) -> Spec:
    """The spec of the candidate whose result is that of its stage; the spec itself where nothing is
    tried, or nothing chosen yet."""
    from qatspec.plan import chosen_name

    name = chosen_name(workdir, spec.tried) if spec.tried is not None else None
    return next((c.spec for c in spec.candidates if c.name == name), spec)


def of_candidate(spec: Spec, workdir: Path | None, name: str | None) -> tuple[Spec, Path | None]:
    """The spec and the work directory of the candidate `name`; those that are given for None.

    Raises UsageError where the spec has no such candidate."""
    from qatspec.plan import candidate_folder

    if name is None:
        return spec, workdir
    names = [candidate.name for candidate in spec.candidates]
    if name not in names:
        words = suggest(name, names) or "it has none"
        raise click.UsageError(f"the spec has no candidate `{name}`; {words}")
    candidate_spec = spec.candidates[names.index(name)].spec
    folder = candidate_folder(workdir or default_workdir(spec), str(spec.tried), name)
    return candidate_spec, folder


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
    """The context of a stage for a command that runs no plan.

    locate: returns the folder of a stage's results (see `Held.folder`)."""
    from qatspec.stages import Context
    from qatspec.train.process import make_repeatable, pick_device

    warn_once = Warnings(spec)

    def report_warnings(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "log" and "diagnostic" in data:
            warn_once(data["diagnostic"])
        elif kind == "log":
            echo(data["message"], err=True)

    workdir = workdir or default_workdir(spec)
    spec = chosen(spec, workdir)
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
