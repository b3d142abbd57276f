"""The time of a TFLite file in LiteRT on this CPU."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.api import Artifact
from qatspec_litert.march import open_interpreter, to_file

if TYPE_CHECKING:
    from qatspec.api import Program

#: Runs that are timed; fewer where all of them take longer than so many seconds.
ROUNDS, SECONDS = 30, 2.0


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Time the file on one thread and one image, for perf.json."""
    interpreter = open_interpreter(artifact)
    sources = interpreter.get_input_details()
    for port, source, x in zip(artifact.real_inputs, sources, inputs[0], strict=True):
        interpreter.set_tensor(source["index"], to_file(port, x[:1]))
    wall: list[float] = []
    cpu: list[float] = []
    end = time.perf_counter() + SECONDS
    for number in range(ROUNDS + 1):
        began, spent = time.perf_counter(), time.process_time()
        interpreter.invoke()
        if number:  # the first run is not counted
            cpu.append(1000 * (time.process_time() - spent))
            wall.append(1000 * (time.perf_counter() - began))
        if number > 2 and time.perf_counter() > end:
            break
    median = statistics.median(wall)
    perf = {
        "model name": artifact.manifest["name"],
        "march": artifact.march,
        "source": "measured",
        "note": "measured by qatspec on the machine that compiled it",
        "CPU": _processor(),
        "LiteRT": version("ai-edge-litert"),
        "kernels": artifact.manifest["kernels"],
        "threads": 1,
        "batch": 1,
        "runs": len(wall),
        "latency (ms)": round(median, 4),
        "latency, quartiles (ms)": _quartiles(wall),
        "CPU time (ms)": round(statistics.median(cpu), 4),
        "FPS": round(1000 / median, 2),
    }
    return {"perf": perf}


def _quartiles(values: Sequence[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4)
    return [round(low, 4), round(high, 4)]


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    return (names or [platform.processor()])[0] or platform.machine()
