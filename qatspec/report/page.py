"""Gathers what a run left behind and renders it; no scripts, no links, no fonts to fetch."""

from __future__ import annotations

import importlib.resources
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS921, QS925
from qatspec.files import read_json, why_unreadable
from qatspec.schema.load import summary_schema

_MAX_BYTES = 1 << 28


def report_page(workdir: Path) -> str:
    """The page of `workdir`.

    Raises DiagnosticError: QS925 where no run has left a summary, QS921 without jinja2.
    """
    return render(gather(workdir))


def gather(workdir: Path) -> dict[str, Any]:
    """Everything that the page shows: the summary, and the decisions and perf files it names."""
    path = workdir / "summary.json"
    summary = _read(path)
    for error in Draft202012Validator(dict(summary_schema())).iter_errors(summary):
        raise _no_results(
            path, f"it is not the summary of a run: {error.json_path} is not as written"
        )
    by_kind = {a["kind"]: workdir / a["path"] for a in summary["artifacts"]}
    perf = _part(by_kind["perf_json"], "summary", dict) if "perf_json" in by_kind else None
    decisions = _part(by_kind["decisions"], "decisions", list) if "decisions" in by_kind else []
    return {"summary": summary, "perf": perf, "decisions": decisions}


def render(content: Mapping[str, Any]) -> str:
    """The page's text. Raises DiagnosticError QS921 without jinja2."""
    try:
        import jinja2
    except ModuleNotFoundError as error:
        raise QS921.error(
            "the report is rendered by jinja2, which is not installed",
            help="pip install 'qatspec[report]'",
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
        return read_json(path, _MAX_BYTES)
    except OSError as error:
        raise _no_results(path, why_unreadable(error)) from error
    except ValueError as error:
        raise _no_results(path, str(error)) from error


def _part(path: Path, key: str, kind: type) -> Any:
    """What a file of the run holds under `key`."""
    content = _read(path)
    if not isinstance(content, dict) or not isinstance(content.get(key), kind):
        raise _no_results(path, f"it has no `{key}`")
    return content[key]


def _no_results(path: Path, why: str) -> DiagnosticError:
    return QS925.error(
        f"no results to report: `{path}`: {why}",
        help="give the work directory of a finished `qatspec run`",
        span=Span(file=str(path)),
    )
