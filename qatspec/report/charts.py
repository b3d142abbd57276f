"""Charts of the report as Vega-Lite specifications (vega.github.io/vega-lite, version 6)."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qatspec.page import Chart, Rows
from qatspec.report.gathered import Run
from qatspec.report.measured import Histogram

#: Class -> points (recall, precision).
Curves = Mapping[str, Sequence[tuple[float, float]]]
#: Points of a curve; steps between are averaged.
POINTS = 400
#: Fake-quants whose scales are drawn: those that moved most, as many as there are colours.
MOST_MOVED = 7
_LINE = {"type": "line", "strokeWidth": 1.5, "clip": True}
#: Characters of a name of which two stand side by side below a chart.
_LONG = 22
_STAGES = ("float", "calibration", "qat")


def curves(runs: Sequence[Run]) -> list[Chart]:
    """Losses, learning rate, gradient norm, metrics, scales and throughput of each stage."""
    charts: list[Chart] = []
    for stage in _STAGES:
        charts += [
            _curve(f"{stage}: loss", "loss", _losses(runs, stage)),
            _curve(f"{stage}: learning rate", "learning rate", _of_steps(runs, stage, "lr")),
            _curve(
                f"{stage}: gradient norm", "L2 norm", _of_steps(runs, stage, "grad_norm"), log=True
            ),
            _curve(f"{stage}: metrics", "metric, 0 to 100", _metrics(runs, stage), points=True),
            _curve(
                f"{stage}: scales that moved most, relative to the first epoch",
                "scale / first scale",
                _scales(runs, stage),
                points=True,
            ),
            _curve(
                f"{stage}: throughput",
                "images / s",
                _times(runs, stage, "images_per_second", 1),
                points=True,
            ),
            _curve(
                f"{stage}: most memory of the process",
                "MiB",
                _times(runs, stage, "memory_bytes", 1 << 20),
                points=True,
            ),
        ]
    return [chart for chart in charts if chart["data"]["values"]]


def of_candidates(run: Run) -> list[Chart]:
    """Loss and first metric of the stage that tried several candidates, a curve for each."""
    if not run.candidates:
        return []
    tried = run.summary["tried"]
    metric = next(iter(tried["candidates"][0]["metrics"]), "")
    losses: dict[str, list[tuple[int, float]]] = {}
    metrics: dict[str, list[tuple[int, float]]] = {}
    for one in run.candidates:
        steps = [entry for entry in one.history if entry["kind"] == "step"]
        judged = [entry for entry in one.history if entry["kind"] == "metrics"]
        losses[one.name] = [(entry["step"], entry["loss"]) for entry in steps]
        values = [(entry["step"], entry["metrics"].get(metric)) for entry in judged]
        metrics[one.name] = [(step, value) for step, value in values if value is not None]
    title = f"candidates of {tried['stage']}"
    charts = [
        _curve(f"{title}: loss", "loss", _rows(run, losses)),
        _curve(f"{title}: {metric}", metric, _rows(run, metrics), points=True),
    ]
    return [chart for chart in charts if chart["data"]["values"]]


def _curve(title: str, y: str, rows: Rows, *, log: bool = False, points: bool = False) -> Chart:
    several_runs = len({row["run"] for row in rows}) > 1
    names = list(dict.fromkeys(row["name"] for row in rows))
    scale = {"type": "log"} if log and all(row["value"] > 0 for row in rows) else {"zero": False}
    encoding: dict[str, Any] = {
        "x": {
            "field": "step",
            "type": "quantitative",
            "title": "step",
            "axis": {"tickMinStep": 1, "format": "~s"},
        },
        "y": {"field": "value", "type": "quantitative", "title": y, "scale": scale},
        "color": {
            "field": "name",
            "type": "nominal",
            "title": None,
            "sort": None,
            "legend": _legend(names),
        },
        "tooltip": [
            {"field": "name"},
            {"field": "step"},
            {"field": "value", "format": ".5~g"},
            {"field": "run"},
        ],
    }
    if several_runs:
        of_run = {"field": "run", "type": "nominal", "title": None, "sort": None}
        if len(names) == 1:
            encoding["color"] = of_run
        else:
            encoding["strokeDash"] = {**of_run, "legend": {"symbolType": "stroke"}}
    return {
        "title": title,
        "data": {"values": rows},
        "height": 200,
        "mark": {**_LINE, "point": {"size": 24}} if points else _LINE,
        "encoding": encoding,
        "params": [
            {
                "name": "zoom",
                "select": {"type": "interval", "zoom": "wheel![event.shiftKey]"},
                "bind": "scales",
            }
        ],
    }


def _legend(names: Sequence[str]) -> dict[str, Any] | None:
    """None for one curve, whose name is the chart's; one column where names are long."""
    if len(names) < 2:
        return None
    longest = max(map(len, names))
    return {"columns": 1, "labelLimit": 340} if longest > _LONG else {"columns": 2}


def _losses(runs: Sequence[Run], stage: str) -> Rows:
    rows: Rows = []
    for run in runs:
        parts: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for entry in run.history[stage]:
            if entry["kind"] == "step":
                values = {"loss": entry["loss"], **entry["losses"]}
                if len(values) == 2:  # the only part is the loss
                    values = {"loss": entry["loss"]}
                for name, value in values.items():
                    parts[name].append((entry["step"], value))
        rows += _rows(run, parts)
    return rows


def _of_steps(runs: Sequence[Run], stage: str, key: str) -> Rows:
    rows: Rows = []
    for run in runs:
        steps = [e for e in run.history[stage] if e["kind"] == "step"]
        rows += _rows(run, {key: [(e["step"], e[key]) for e in steps]})
    return rows


def _metrics(runs: Sequence[Run], stage: str) -> Rows:
    rows: Rows = []
    for run in runs:
        values: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for entry in run.history[stage]:
            for name, value in entry["metrics"].items() if entry["kind"] == "metrics" else ():
                if value is not None:
                    values[name].append((entry["step"], value))
        rows += _rows(run, values)
    return rows


def _scales(runs: Sequence[Run], stage: str) -> Rows:
    rows: Rows = []
    for run in runs:
        entries = [e for e in run.history[stage] if e["kind"] == "scales"]
        if len(entries) < 2:
            continue
        first = {path: _middle(value) for path, value in entries[0]["scales"].items()}
        moved: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for entry in entries:
            for path, value in entry["scales"].items():
                if first.get(path):
                    moved[path].append((entry["step"], _middle(value) / first[path]))
        by_distance = sorted(moved, key=lambda p: -max(abs(math.log(v)) for _, v in moved[p] if v))
        rows += _rows(run, {path: moved[path] for path in by_distance[:MOST_MOVED]})
    return rows


def _middle(scale: Any) -> float:
    """The scale, or the median of those of channels."""
    return float(scale[1] if isinstance(scale, list) else scale)


def _times(runs: Sequence[Run], stage: str, key: str, unit: float) -> Rows:
    rows: Rows = []
    for run in runs:
        digest = {s["stage"]: s["digest"] for s in run.summary["steps"]}.get(stage)
        entries = [e for e in run.times[stage] if e.get("digest") == digest and e.get(key)]
        rows += _rows(run, {key: [(e["step"], e[key] / unit) for e in entries]})
    return rows


def _rows(run: Run, curves: Mapping[str, Sequence[tuple[int, float]]]) -> Rows:
    return [
        {"run": run.name, "name": name, "step": step, "value": float(f"{value:.6g}")}
        for name, points in curves.items()
        for step, value in _thinned(points)
    ]


def _thinned(points: Sequence[tuple[int, float]]) -> Iterable[tuple[int, float]]:
    """At most POINTS points: means of as many neighbours as there need to be."""
    size = -(-len(points) // POINTS)
    for start in range(0, len(points), max(1, size)):
        part = points[start : start + size]
        yield part[-1][0], sum(value for _, value in part) / len(part)


def histogram(one: Histogram) -> Chart:
    """The numbers of an activation in float (area) and quantized (line), with its clip lines."""
    rows = [
        {"at": (low + high) / 2, "count": count + 1, "what": what}
        for what, counts in (("float", one.real), ("quantized", one.quantized))
        for low, high, count in zip(one.edges[:-1], one.edges[1:], counts, strict=True)
    ]
    clips = [{"clip": at} for at in (one.low, one.high) if math.isfinite(at)]
    shared = {"x": {"field": "at", "type": "quantitative", "title": None}}
    count = {"field": "count", "type": "quantitative", "title": "count + 1"}
    return {
        "title": one.node,
        "height": 150,
        "data": {"values": rows},
        "layer": [
            {
                "mark": {"type": "line", "interpolate": "step", "strokeWidth": 1.5},
                "encoding": {
                    **shared,
                    "y": {**count, "scale": {"type": "log"}},
                    "color": {"field": "what", "type": "nominal", "title": None, "sort": None},
                    "tooltip": [{"field": "what"}, {"field": "at"}, {"field": "count"}],
                },
            },
            {
                "data": {"values": clips},
                "mark": {"type": "rule", "strokeDash": [4, 3], "color": "#D55E00"},
                "encoding": {"x": {"field": "clip", "type": "quantitative"}},
            },
        ],
    }


#: Classes with a curve of their own where there are more, and points of each curve.
_DRAWN, _CURVE_POINTS = 8, 26


def of_classes(details: Mapping[str, Mapping[str, Any]], classes: Sequence[str]) -> list[Chart]:
    """Charts of what a data set tells of its classes (`Dataset.details`) in float and in
    integers. Of many classes, those whose precision differs most between them are drawn beside the
    mean of all."""
    curves = {what: detail.get("curves", {}) for what, detail in details.items()}
    chosen = _most_different(curves)
    rows = [
        {"what": what, "class": name, "recall": recall, "precision": round(value, 4)}
        for what, of_class in curves.items()
        for name, points in _with_mean(of_class, chosen).items()
        for recall, value in points[:: -(-len(points) // _CURVE_POINTS)]
    ]
    drawn = [_precision(rows)] if rows else []
    for what, detail in details.items():
        if "confusion" in detail:
            drawn.append(_confusion(f"confusion, {what}", classes, detail["confusion"]))
    return drawn


def _most_different(curves: Mapping[str, Curves]) -> list[str] | None:
    """The classes whose mean precision differs most between the results; None where all of them
    are few enough to draw."""
    names = list(dict.fromkeys(name for of_class in curves.values() for name in of_class))
    if len(names) <= _DRAWN:
        return None

    def apart(name: str) -> float:
        means = [_mean([p for _, p in of_class.get(name, ())]) for of_class in curves.values()]
        return max(means) - min(means)

    return sorted(names, key=apart, reverse=True)[:_DRAWN]


def _with_mean(of_class: Curves, chosen: Sequence[str] | None) -> Curves:
    """The curves to draw; the mean of all of them first where they are only some."""
    if chosen is None or not of_class:
        return of_class
    lengths = {len(points) for points in of_class.values()}
    kept = {name: of_class[name] for name in chosen if name in of_class}
    if len(lengths) > 1:  # a data set with recalls of its own for each class
        return kept
    columns = zip(*of_class.values(), strict=True)
    mean = [(points[0][0], _mean([p for _, p in points])) for points in columns]
    return {f"mean of {len(of_class)}": mean, **kept}


def _mean(numbers: Sequence[float]) -> float:
    return sum(numbers) / len(numbers) if numbers else 0.0


def _precision(rows: Rows) -> Chart:
    """Precision over recall of each class."""
    return {
        "title": "precision over recall, IoU 0.5",
        "height": 280,
        "data": {"values": rows},
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {
            "x": {"field": "recall", "type": "quantitative"},
            "y": {"field": "precision", "type": "quantitative", "scale": {"domain": [0, 1]}},
            "color": {"field": "class", "type": "nominal", "sort": None},
            "strokeDash": {"field": "what", "type": "nominal", "title": None, "sort": None},
            "tooltip": [{"field": n} for n in ("class", "what", "recall", "precision")],
        },
    }


def _confusion(title: str, classes: Sequence[str], counts: Sequence[Sequence[int]]) -> Chart:
    """True classes (rows) by predicted ones (columns), each row's shares as shades."""
    rows = [
        {"true": name, "predicted": predicted, "count": n, "share": round(n / max(1, sum(row)), 4)}
        for name, row in zip(classes, counts, strict=True)
        for predicted, n in zip((*classes, "other"), row, strict=False)
        if n
    ]
    axes = {
        axis: {"field": field, "type": "nominal", "sort": list(classes), "title": field}
        for axis, field in (("y", "true"), ("x", "predicted"))
    }
    return {
        "title": title,
        "height": 320,
        "data": {"values": rows},
        "mark": {"type": "rect"},
        "encoding": {
            **axes,
            "color": {"field": "share", "type": "quantitative", "scale": {"scheme": "viridis"}},
            "tooltip": [{"field": n} for n in ("true", "predicted", "count", "share")],
        },
    }
