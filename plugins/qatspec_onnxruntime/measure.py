"""What is measured of a compiled file: its time on this CPU, and how far it is from the Program."""

from __future__ import annotations

import platform
import statistics
import time
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qatspec.api import (
    Artifact,
    LayerExactness,
    Program,
    layer_exactness,
    open_session,
    scratch_folder,
)
from qatspec_onnxruntime.march import run

#: Runs of each file that are timed; fewer where all of them take longer than so many seconds.
ROUNDS, SECONDS = 30, 4.0


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each run, by the clock and of the process's CPU time."""

    wall: list[float]
    cpu: list[float]

    def figures(self, batch: int) -> dict[str, Any]:
        """Medians and quartiles, under names that state their units."""
        median = statistics.median(self.wall)
        return {
            "latency (ms)": round(median, 4),
            "latency, quartiles (ms)": _quartiles(self.wall),
            "CPU time (ms)": round(statistics.median(self.cpu), 4),
            "CPU time, quartiles (ms)": _quartiles(self.cpu),
            "FPS": round(1000 * batch / median, 2),
        }


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Time the file on one thread beside `float32`, and compare each of its layers.

    inputs: integers of the Program's ports, one list an image. Returns "perf" for perf.json and, of
    a file that is not exact, "manifest": what to add to its manifest.
    """
    found = {"perf": _perf(program, artifact, inputs[0], float32)}
    if not artifact.manifest["bit_exact"]:
        found["manifest"] = _exactness(program, artifact, inputs)
    return found


def _perf(
    program: Program, artifact: Artifact, ints: Sequence[np.ndarray], float32: bytes | None
) -> dict[str, Any]:
    batch = artifact.manifest["options"]["batch"] or 1
    fed = [np.concatenate([x[:1]] * batch) for x in ints]
    files = [(artifact.sections["model.onnx"], fed)]
    if float32 is not None:
        real = [port.dequantize(x) for port, x in zip(program.inputs, fed, strict=True)]
        files.append((float32, real))
    own, *others = _timed(files)
    beside: dict[str, Any] = {}
    for reference in others:
        beside = {f"float32 {name}": value for name, value in reference.figures(batch).items()}
        ratios = [a / b for a, b in zip(reference.cpu, own.cpu, strict=True)]
        beside["float32 CPU time / CPU time"] = round(statistics.median(ratios), 3)
        beside["float32 CPU time / CPU time, quartiles"] = _quartiles(ratios)
    return {
        "model name": artifact.manifest["name"],
        "march": artifact.march,
        "source": "measured",
        "note": "measured by qatspec on the machine that compiled it, float32 in turn with it",
        **_machine(),
        "onnxruntime": onnxruntime.__version__,
        "options": artifact.manifest["options"],
        "threads": 1,
        "batch": batch,
        "runs": len(own.wall),
        **own.figures(batch),
        **beside,
        "optimized graph": _kinds(files[0][0]),
    }


def _timed(files: Sequence[tuple[bytes, Sequence[np.ndarray]]]) -> list[Times]:
    """Run all files in turn; the first round is not counted."""
    sessions = []
    for data, arrays in files:
        session = open_session(data, 1)
        names = [port.name for port in session.get_inputs()]
        sessions.append((session, dict(zip(names, arrays, strict=True)), Times([], [])))
    end = time.perf_counter() + SECONDS
    for number in range(ROUNDS + 1):
        for session, feeds, times in sessions:
            wall, cpu = time.perf_counter(), time.process_time()
            session.run(None, feeds)
            if number:
                times.cpu.append(1000 * (time.process_time() - cpu))
                times.wall.append(1000 * (time.perf_counter() - wall))
        if number > 2 and time.perf_counter() > end:
            break
    return [times for *_, times in sessions]


def _quartiles(values: Sequence[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4)
    return [round(low, 4), round(high, 4)]


def _kinds(data: bytes) -> dict[str, int]:
    """Node types of the graph that onnxruntime makes of the file, the most frequent first."""
    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))


def _machine() -> dict[str, Any]:
    """The processor, and its instructions for sums of 8-bit products; x86 without them may
    saturate."""
    info = Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if "model name" in line]
    vnni = sorted({"avx512_vnni", "avx_vnni"} & set(text.split()))
    return {
        "CPU": (names or [platform.processor()])[0] or platform.machine(),
        "VNNI": ", ".join(vnni) if vnni else "none found",
    }


def _exactness(
    program: Program, artifact: Artifact, inputs: Sequence[Sequence[np.ndarray]]
) -> dict[str, Any]:
    layers = layer_exactness(program, inputs)
    largest = 0
    for ints in inputs:
        for mine, theirs in zip(program.run(*ints), run(artifact, ints), strict=True):
            largest = max(largest, int(np.abs(mine.astype(np.int64) - theirs).max(initial=0)))
    differing = {name: layer for name, layer in layers.items() if layer.equal < layer.compared}
    return {
        "max_lsb": largest,
        "exactness": {
            "note": "max_lsb is of the outputs; a layer is compared with what the Program computes "
            "from the integers that onnxruntime gave for the layers before it",
            "images": len(inputs),
            "layers": len(layers),
            "equal layers": len(layers) - len(differing),
            "max_lsb of a layer": max((layer.max_lsb for layer in layers.values()), default=0),
            "share of equal integers": _share(layers.values()),
            "differing": {
                name: {"share of equal integers": _share([layer]), "max_lsb": layer.max_lsb}
                for name, layer in differing.items()
            },
        },
    }


def _share(layers: Collection[LayerExactness]) -> float:
    compared = sum(layer.compared for layer in layers)
    return round(sum(layer.equal for layer in layers) / compared, 7) if compared else 1.0
