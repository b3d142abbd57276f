"""summary.json: what a run came to (rule: summary; schemas/summary-1.schema.json)."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from qatspec import __version__
from qatspec.engine import record as records
from qatspec.plan import Plan, with_results
from qatspec.plan.results import SUMMARY
from qatspec.source import COMMAND_LINE, hide
from qatspec.spec import dump
from qatspec.train.files import write_json

FORMAT = 1

#: stage -> the key of its metrics: convert makes and judges the Program, compile a binary that
#: promises no equality with it
METRICS = {
    "float": "float",
    "calibration": "calibration",
    "qat": "qat",
    "convert": "integer",
    "compile": "bin",
}

Summary = dict[str, Any]


def build(
    plan: Plan,
    workdir: Path,
    steps: Sequence[Mapping[str, Any]],
    *,
    device: str,
    nproc: int,
    smoke: bool,
) -> Summary:
    """The summary of the work directory after `steps`. smoke: of a smoke run."""
    asked, plan = plan, with_results(plan, workdir)
    records_of = {step.name: records.standing(plan, workdir, step) for step in plan.steps}
    done = {name: record for name, record in records_of.items() if record is not None}
    metrics = {
        METRICS[name]: record["metrics"]
        for name, record in done.items()
        if name in METRICS and record["metrics"]
    }
    return {
        "format": FORMAT,
        "spec": {**_spec(asked), "smoke": smoke},
        "environment": environment(device, nproc),
        "steps": list(steps),
        "metrics": metrics,
        "delta_to_float": _delta_to_float(metrics),
        **_tried(plan, done),
        "artifacts": [
            {"path": path, "compared": None, **output}  # older records do not say it
            for record in done.values()
            for path, output in record["outputs"].items()
        ],
        "performance": [
            entry
            for record in done.values()
            for path, output in record["outputs"].items()
            if output["kind"] == "perf_json"
            for entry in [_performance(workdir / path)]
        ],
    }


def _tried(plan: Plan, done: Mapping[str, Any]) -> dict[str, Any]:
    """What the candidates of a stage came to; nothing where there are none, or none is chosen."""
    record = done.get(plan.tried or "")
    if record is None or "candidates" not in record:
        return {}
    keys = ("chosen", "candidates", "groups")
    return {"tried": {"stage": plan.tried, **{key: record[key] for key in keys}}}


def _spec(plan: Plan) -> dict[str, Any]:
    """What identifies the spec, and what makes its results again."""
    document = plan.spec.document
    return {
        "name": plan.spec.name,
        "digest": plan.digest,
        "path": str(Path(document.path).resolve()),
        "overrides": [hide(line) for line in document.texts.get(COMMAND_LINE, "").splitlines()],
        "resolved": dump(plan.spec, places=True),
    }


def write(workdir: Path, summary: Summary) -> Path:
    """Write it, atomically. Raises DiagnosticError QS903."""
    path = workdir / SUMMARY
    write_json(path, summary)
    return path


def environment(device: str, nproc: int) -> dict[str, Any]:
    """What the bytes of a run depend on beside the spec (rule: same bytes)."""
    packages = ("torch", "numpy", "onnx", "onnxruntime", "pycocotools")
    return {
        "qatspec": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device,
        "threads": torch.get_num_threads(),
        "nproc": nproc,
        "cpus": os.cpu_count(),
        "packages": {name: _version(name) for name in packages},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _delta_to_float(
    metrics: Mapping[str, Mapping[str, float]],
) -> dict[str, dict[str, float]]:
    base = metrics.get("float", {})
    return {
        stage: {name: value - base[name] for name, value in values.items() if name in base}
        for stage, values in metrics.items()
        if stage != "float" and base
    }


def _performance(path: Path) -> dict[str, Any]:
    """The figures of a perf report: modelled, under the vendor's field names, or measured."""
    report = json.loads(path.read_bytes())["summary"]
    return {
        "march": report["march"] if "march" in report else report["BPU march"],
        "latency_ms": report["latency (ms)"],
        "fps": report["FPS"],
        "source": report.get("source", "modelled"),
    }
