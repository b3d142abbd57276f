"""Check that the results a command reads match the spec; the option `--stale`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import click

from qatspec.cli import options
from qatspec.cli.output import show
from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.diag.codes import QS926, QS930, QS931
from qatspec.diag.words import quote_list
from qatspec.files import read_json
from qatspec.plan import Change, Plan, as_chosen, resolve, results, with_recorded_sizes
from qatspec.plan.checkpoints import SUFFIX
from qatspec.plan.reading import ComparedResult, compare_with_spec, locate
from qatspec.plan.results import workdir_of
from qatspec.spec import STAGES, TRIED, Spec, unchosen, with_sizes

stale_option = click.option(
    "--stale",
    is_flag=True,
    help="Accept results that were made with other settings, with a warning.",
)
#: Changes that a message names; the others are counted.
_NAMED = 4
_LARGEST_SUMMARY = 64 << 20


class Held:
    """The results in a work directory, checked against a spec.

    workdir  default: the spec's own. stale: results of other settings are a warning, not an error.
    smoke: the results are those of a smoke run, and so is `workdir`.
    """

    def __init__(
        self, spec: Spec, workdir: Path | None, *, stale: bool, smoke: bool = False
    ) -> None:
        self._spec, self._stale, self._smoke = spec, stale, smoke
        self._workdir = workdir or options.default_workdir(spec)
        self._told: set[str] = set()

    def folder(self, stage: str, files: Sequence[str] = ()) -> Path:
        """Return the folder of the results of a stage, checked against the spec.

        files: check only where one of these exists. Default: check always.

        Raises DiagnosticError: QS930 (of other settings), QS926 (no such stage), QS931 (damaged).
        """
        stage_folder = self._workdir / stage
        if stage not in self._spec.stages and stage_folder.exists():
            raise QS926.error(
                f"the spec has no stage `{stage}`; `{stage_folder}` is of another spec",
                help=f"it has {quote_list(list(self._spec.stages))}",
                at="/stages",
            )
        if stage not in self._spec.stages or (files and not self._has(stage, files)):
            return stage_folder
        plan = self._plan(stage_folder)
        folder_of_stage = locate(plan, self._workdir, stage) if plan is not None else None
        if folder_of_stage is None:
            return stage_folder
        self._tell(folder_of_stage)
        return folder_of_stage.result.folder

    def in_place(self, stage: str) -> None:
        """Check the result in the stage's own folder against the spec. Raises DiagnosticError."""
        stage_folder = self._workdir / stage
        result, plan = results.find(stage_folder, stage), self._plan(stage_folder)
        if result is not None and plan is not None:
            self._tell(compare_with_spec(plan, result))

    def hold(self, path: Path) -> None:
        """Check a file of the command line against the spec, if a record of a stage lies beside it.

        Raises DiagnosticError as `folder` does."""
        try:
            result = results.beside(path)
        except DiagnosticError as error:
            self._unknown(path, error.diagnostics)
            return
        if result is None:
            return
        if not path.name.endswith(SUFFIX) and results.is_spoilt(result, path):
            raise DiagnosticError(_damaged(path, result.stage))
        plan = self._plan(path)
        if plan is not None:
            self._tell(compare_with_spec(plan, result))

    def _has(self, stage: str, files: Sequence[str]) -> bool:
        folders = [self._workdir / stage, *(r.folder for r in results.kept(self._workdir, stage))]
        return any((folder / name).exists() for folder in folders for name in files)

    def _plan(self, path: Path) -> Plan | None:
        try:
            return self._resolved
        except DiagnosticError as error:
            self._unknown(path, error.diagnostics)
            return None

    @cached_property
    def _resolved(self) -> Plan:
        spec = with_recorded_sizes(self._spec, self._workdir)
        if self._smoke:
            spec = with_sizes(spec, dict.fromkeys(unchosen(self._spec), TRIED))
        plan = resolve(spec)
        if self._smoke:
            from qatspec.engine.wanted import smoke_plan

            plan = smoke_plan(plan)
        return as_chosen(plan, self._workdir)

    def _unknown(self, path: Path, why: Sequence[Diagnostic]) -> None:
        message = f"`{path}` cannot be checked against the spec: {why[0].message}"
        self._report(message, why[0].help or "", why[0].at, why[0].span)

    def _tell(self, held: ComparedResult) -> None:
        folder, stage = held.result.folder, held.result.stage
        what = f"the result of stage {stage} in `{folder}` was made with other"
        if held.differs:
            at = next((c.span for c in held.differs if c.span is not None), None)
            message = f"{what} settings than the spec has now: {_list(held.differs)}"
            self._report(message, self._run_first(folder), None, at)
        elif held.software:
            message = f"{what} software: {_list(held.software)}"
            self._warn(QS930.warning(message))

    def _run_first(self, folder: Path) -> str:
        workdir = str(workdir_of(folder))
        if self._smoke:
            workdir = f"{workdir.removesuffix('-smoke')} --smoke"
        command = f"qatspec run {self._spec.document.path} --workdir {workdir}"
        return f"run `{command}` first (with the same --set, if any)"

    def _report(self, message: str, advice: str, at: str | None, span: Span | None) -> None:
        """Report an error, or a warning with --stale."""
        advice = "; ".join(filter(None, (advice, "`--stale` accepts it")))
        diagnostic = QS930.diagnostic(message, help=advice, at=at, span=span)
        if not self._stale:
            raise DiagnosticError(diagnostic)
        self._warn(replace(diagnostic, severity="warning", help=None))

    def _warn(self, diagnostic: Diagnostic) -> None:
        if diagnostic.message not in self._told:
            self._told.add(diagnostic.message)
            options.warn(self._spec, diagnostic)


def hold_summary(workdir: Path, *, stale: bool) -> None:
    """Demand that the stages hold the results that `summary.json` of the last run names.

    Raises DiagnosticError QS930 (a warning with `stale`)."""
    path = workdir / results.SUMMARY
    try:
        steps = read_json(path, _LARGEST_SUMMARY)["steps"]
        done = [s for s in steps if s["status"] != "failed" and s["stage"] in STAGES]
        named = {s["stage"]: s["digest"] for s in done}
    except (OSError, ValueError, TypeError, KeyError):
        return  # the report itself says what is wrong with it
    results_of = {stage: results.find(workdir / stage, stage) for stage in named}
    other = [s for s, r in results_of.items() if r is None or not r.record or r.digest != named[s]]
    if not other:
        return
    diagnostic = QS930.diagnostic(
        f"`{path}` is of another run than the results of stage {quote_list(other)}",
        severity="warning" if stale else "error",
        help="run the spec again, which writes a new summary; `--stale` shows the old one",
        span=Span(file=str(path)),
    )
    if not stale:
        raise DiagnosticError(diagnostic)
    show([diagnostic])


def _list(changed: Iterable[Change]) -> str:
    texts = [change.text for change in changed]
    more = f"; and {len(texts) - _NAMED} more" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


def _damaged(path: Path, stage: str) -> Diagnostic:
    return QS931.diagnostic(
        f"`{path}` is damaged: its bytes are not the ones that stage {stage} wrote",
        help=f"run the spec again, which writes the damaged files of stage {stage} again",
        span=Span(file=str(path)),
    )
