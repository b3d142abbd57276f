"""The schedule of a bin as a trace that Perfetto and chrome://tracing open: a row for each unit."""

from __future__ import annotations

from typing import Any

from qatspec.backend.lanes import MEANING, lane_names, lane_of
from qatspec.backend.perf import timing
from qatspec.program import Artifact


def trace_events(artifact: Artifact) -> dict[str, Any]:
    """Return the trace as JSON data in the Trace Event Format: a complete event ("X") for each
    command, with its start and duration in microseconds, its layer, and what it moves or computes.

    artifact: a compiled file of a tiled march. Raises DiagnosticError as `perf`. Source of the
    format: the Trace Event Format document of Chromium.
    """
    timed = timing(artifact)
    compiled = timed.compiled
    names = list(compiled.program.values)
    rows: list[dict[str, Any]] = [
        {"ph": "M", "pid": 0, "tid": lane, "name": "thread_name", "args": {"name": name}}
        for lane, name in enumerate(lane_names(timed.events, compiled.cores))
    ]
    for number, event in enumerate(timed.events):
        command, box = event.command, event.command.box
        rows.append(
            {
                "ph": "X",
                "pid": 0,
                "tid": lane_of(event, compiled.cores),
                "name": compiled.layers[command.layer].name,
                "cat": MEANING[command.code],
                "ts": round(event.start, 4),
                "dur": round(event.end - event.start, 4),
                "args": {
                    "command": number,
                    "what": MEANING[command.code],
                    "value": names[command.value] if command.code != "weight" else "constants",
                    "channels": f"{box.c0}..{box.c1}",
                    "rows": f"{box.h0}..{box.h1}",
                    "bytes through DDR": event.moved,
                },
            }
        )
    return {"traceEvents": rows, "displayTimeUnit": "ns"}
