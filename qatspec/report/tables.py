"""The verdict of a run, and its tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qatspec.backend.chip import Chip
from qatspec.report.gathered import Run
from qatspec.report.measured import Measured, decibels
from qatspec.types.qconfig import QRANGE

#: Rows of metrics by the summary's key, in the order of the stages.
RESULTS = ("float", "calibration", "qat", "integer", "bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleRow:
    """A quantized op on the page. Numbers are None where they were not measured; shares are
    percentages of a frame's time and of its traffic through DDR."""

    node: str
    module: str
    ops: str
    rule: str
    source: str
    activation: str
    weight: str
    observer: str
    low: float | None
    high: float | None
    fake_quant_db: float | None
    integer_db: float | None
    steps: int | None
    time: float | None
    memory: float | None
    reason: str


def verdict(run: Run) -> str:
    """One sentence: what each stage lost against float, exactness, and time."""
    metrics, deltas = run.summary["metrics"], run.summary["delta_to_float"]
    failed = [s["stage"] for s in run.summary["steps"] if s["status"] in ("failed", "interrupted")]
    parts = []
    if failed:
        parts.append(f"stage {failed[0]} did not finish")
    for base in [next(iter(metrics["float"]), None)] if "float" in metrics else []:
        if base is not None:
            parts.append(f"float has {metrics['float'][base]:.2f} {base}")
        lost = [
            f"{name} {deltas[name][base]:+.2f}"
            for name in RESULTS
            if name in deltas and base in deltas[name]
        ]
        parts += [f"against it: {', '.join(lost)}"] if lost else []
    parts += _exactness(run)
    parts += [
        f"{entry['latency_ms']:.3f} ms a frame on {entry['march']} ({entry['source']})"
        for entry in run.summary["performance"]
    ]
    return "; ".join(parts) + "." if parts else "No stage has a result yet."


def _exactness(run: Run) -> list[str]:
    compared = [a for a in run.summary["artifacts"] if a["bit_exact"] is not None]
    differing = [a for a in compared if not a["bit_exact"]]
    if compared and not differing:
        return ["files bit-exact with the Program"]
    return [f"{a['path']} not bit-exact ({a['compared']})" for a in differing]


def modules(
    run: Run, measured: Measured | None, chip: Chip | None, location_of: Callable[[str], str]
) -> list[ModuleRow]:
    """A row for each decision. location_of: file:line of a pointer into the spec."""
    times: dict[str, float] = defaultdict(float)
    moved: dict[str, float] = defaultdict(float)
    for layer in chip.layers if chip else ():
        times[layer.node] += layer.us
        moved[layer.node] += layer.moved
    whole_time, whole_moved = sum(times.values()), sum(moved.values())
    scales = _last_scales(run)
    rows = []
    for decision in run.decisions:
        node, activation = decision["node"], decision["activation"]
        layer_error = measured.layers.get(node) if measured else None
        low, high = _range(decision, measured, scales)
        has_time = any(name in times for name in _nodes(decision))
        rows.append(
            ModuleRow(
                node=node,
                module=decision["module"],
                ops=" + ".join(decision["ops"] or [decision["op"]]),
                rule=location_of(decision["rule"]) if decision["rule"] else "",
                source=decision["source"],
                activation=activation["dtype"] if activation else "float",
                weight=decision["weight"]["dtype"] if decision["weight"] else "",
                observer=_observer(decision),
                low=low,
                high=high,
                fake_quant_db=decibels(layer_error.fake_quant.db) if layer_error else None,
                integer_db=decibels(layer_error.integer.db) if layer_error else None,
                steps=layer_error.end_to_end.largest if layer_error else None,
                time=_share(decision, times, whole_time) if has_time else None,
                memory=_share(decision, moved, whole_moved) if has_time else None,
                reason=decision["reason"],
            )
        )
    return rows


def _nodes(decision: Mapping[str, Any]) -> list[str]:
    """The nodes of a decision as layers of a Program name them."""
    unit, _, _ = decision["node"].rpartition(":")
    prefix = f"{unit}:" if unit else ""
    names = [decision["node"], *(f"{prefix}{name}" for name in decision["group"])]
    return list(dict.fromkeys(names))


def _share(decision: Mapping[str, Any], parts: Mapping[str, float], total: float) -> float | None:
    return 100 * sum(parts.get(n, 0.0) for n in _nodes(decision)) / total if total else None


def _observer(decision: Mapping[str, Any]) -> str:
    if decision["kind"] != "observed" or not decision["activation"]:
        return str(decision["kind"])
    return str(decision["activation"]["observer"])


def _range(
    decision: Mapping[str, Any], measured: Measured | None, scales: Mapping[str, Any]
) -> tuple[float | None, float | None]:
    path = decision["fake_quant"]
    if measured is not None and path in measured.ranges:
        return measured.ranges[path]
    if path in scales and decision["activation"]:
        scale = scales[path][-1] if isinstance(scales[path], list) else scales[path]
        low, high = QRANGE[decision["activation"]["dtype"]]
        return low * scale, high * scale
    return None, None


def _last_scales(run: Run) -> Mapping[str, Any]:
    for stage in ("qat", "calibration"):
        entries = [e for e in run.history[stage] if e["kind"] == "scales"]
        if entries:
            scales: Mapping[str, Any] = entries[-1]["scales"]
            return scales
    return {}


def metric_names(runs: Sequence[Run]) -> list[str]:
    """Every metric of the runs, once, in the order of the data set."""
    return list(
        dict.fromkeys(
            name for run in runs for values in run.summary["metrics"].values() for name in values
        )
    )


def per_class(details: Mapping[str, Mapping[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """(columns, rows) of the metrics of each class in float and in integers; empty where the data
    set tells none.

    details  "float" and "integer" -> what the data set tells (Dataset.details)."""
    told = {what: detail.get("classes", {}) for what, detail in details.items()}
    names = list(dict.fromkeys(name for table in told.values() for name in table))
    metrics = list(dict.fromkeys(m for t in told.values() for row in t.values() for m in row))
    columns = ["class", *(f"{metric}, {what}" for metric in metrics for what in told)]
    rows = [
        [name, *(told[what].get(name, {}).get(metric) for metric in metrics for what in told)]
        for name in names
    ]
    return columns, rows if metrics else []


def settings_of_candidates(run: Run) -> dict[str, list[tuple[str, Any]]]:
    """Candidate -> (key, value) of the settings that are not the same for all candidates of a
    stage; keys begin behind the stage, and digests of what it starts from are no settings."""
    every = [one.keys for one in run.candidates]
    pointers = dict.fromkeys(key for keys in every for key in keys if key.startswith("/"))
    different = [p for p in pointers if any(k.get(p) != every[0].get(p) for k in every)]
    begin = f"/stages/{run.summary['tried']['stage']}/" if run.candidates else ""
    return {
        one.name: [(p.removeprefix(begin), one.keys[p]) for p in different if p in one.keys]
        for one in run.candidates
    }


def differing_keys(runs: Sequence[Run]) -> list[tuple[str, list[Any]]]:
    """(pointer, its value in each run) of spec values that are not the same in all runs."""
    pointers = dict.fromkeys(key for run in runs for key in run.keys)
    rows = [(pointer, [run.keys.get(pointer) for run in runs]) for pointer in pointers]
    return [(p, values) for p, values in rows if any(v != values[0] for v in values[1:])]
