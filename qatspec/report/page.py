"""Gathers what a run left behind and renders it; no scripts, no links, no fonts to fetch."""

from __future__ import annotations

import importlib.resources
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.train.files import write_bytes


def write_report(workdir: Path, target: Path) -> Path:
    """Write the page of `workdir` to `target`.

    Raises DiagnosticError: QS925 where no run has left a summary, QS921 without jinja2, QS903.
    """
    write_bytes(target, render(gather(workdir)).encode())
    return target


def gather(workdir: Path) -> dict[str, Any]:
    """Everything that the page shows: the summary, and the decisions and perf files it names."""
    summary = _read(workdir / "summary.json")
    if "steps" not in summary or "artifacts" not in summary:
        raise _no_results(workdir / "summary.json", "it is no summary of a run")
    by_kind = {a["kind"]: workdir / a["path"] for a in summary["artifacts"]}
    perf = _read(by_kind["perf_json"])["summary"] if "perf_json" in by_kind else None
    decisions = _read(by_kind["decisions"])["decisions"] if "decisions" in by_kind else []
    return {"summary": summary, "perf": perf, "decisions": decisions}


def render(content: Mapping[str, Any]) -> str:
    """The page's text. Raises DiagnosticError QS921 without jinja2."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise DiagnosticError(
            Diagnostic(
                code="QS921",
                message="the report is rendered by jinja2, which is not installed",
                help="pip install 'qatspec[report]'",
            )
        ) from error
    source = (importlib.resources.files("qatspec.report") / "page.html.jinja").read_text("utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    metrics = content["summary"]["metrics"]
    columns = list(dict.fromkeys(name for values in metrics.values() for name in values))
    page: str = environment.from_string(source).render(**content, columns=columns)
    return page


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise _no_results(path, "it does not exist") from None
    except (OSError, ValueError) as error:
        raise _no_results(path, str(error)) from error


def _no_results(path: Path, why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            code="QS925",
            message=f"no results to report: `{path}`: {why}",
            help="give the work directory of a finished `qatspec run`",
            span=Span(file=str(path)),
        )
    )
