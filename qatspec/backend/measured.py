"""What marches measure of their compiled files: times on this machine, and how far a file's
integers are from the Program's."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.export.exactness import LayerExactness
from qatspec.program import Artifact, Program

#: Runs of each file that are timed; fewer where all of them take longer than so many seconds.
ROUNDS, SECONDS = 30, 4.0

#: Integers of a Program's inputs -> those of its outputs.
RunIntegers = Callable[..., Sequence[np.ndarray]]


@dataclass(frozen=True, slots=True)
class Times:
    """Milliseconds of each run: wall by the clock, cpu of the process's CPU time."""

    wall: list[float]
    cpu: list[float]

    def figures(self, batch: int) -> dict[str, Any]:
        """Return medians and quartiles of runs of `batch` images, under names that state their
        units."""
        median = statistics.median(self.wall)
        return {
            "latency (ms)": round(median, 4),
            "latency, quartiles (ms)": _quartiles(self.wall),
            "CPU time (ms)": round(statistics.median(self.cpu), 4),
            "CPU time, quartiles (ms)": _quartiles(self.cpu),
            "FPS": round(1000 * batch / median, 2),
        }


def time_in_turn(runs: Sequence[Callable[[], object]]) -> list[Times]:
    """Run all of `runs` in turn, in up to 30 rounds and about 4 seconds; the first round is not
    counted.

    runs  what is called and timed.

    Returns the times of each.
    """
    times_of_runs = [Times([], []) for _ in runs]
    end = time.perf_counter() + SECONDS
    for number in range(ROUNDS + 1):
        for run, times in zip(runs, times_of_runs, strict=True):
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            if number:
                times.cpu.append(1000 * (time.process_time() - cpu))
                times.wall.append(1000 * (time.perf_counter() - wall))
        if number > 2 and time.perf_counter() > end:
            break
    return times_of_runs


def measured_perf(
    artifact: Artifact,
    integers: Times,
    float32: Times | None,
    *,
    threads: int,
    batch: int,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the summary of `perf.json` of a file whose time was measured.

    artifact  the compiled file; its manifest has "name" and "options".
    integers  times of the file.
    float32   times of the same net in float32, run in turn with it; None where there is none.
    threads   threads that ran it.
    batch     images a run.
    facts     what else a reader should know, such as versions and the optimized graph.
    """
    beside: dict[str, Any] = {}
    note = "measured by qatspec on the machine that compiled it"
    if float32 is not None:
        note += ", float32 in turn with it"
        beside = {f"float32 {name}": value for name, value in float32.figures(batch).items()}
        ratios = [a / b for a, b in zip(float32.cpu, integers.cpu, strict=True)]
        beside["float32 CPU time / CPU time"] = round(statistics.median(ratios), 3)
        beside["float32 CPU time / CPU time, quartiles"] = _quartiles(ratios)
    return {
        "model name": artifact.manifest["name"],
        "march": artifact.march,
        "source": "measured",
        "note": note,
        **_machine(),
        "options": artifact.manifest["options"],
        "threads": threads,
        "batch": batch,
        "runs": len(integers.wall),
        **integers.figures(batch),
        **beside,
        **facts,
    }


def measured_exactness(
    program: Program,
    inputs: Sequence[Sequence[np.ndarray]],
    run: RunIntegers,
    layers: Mapping[str, LayerExactness] | None,
) -> dict[str, Any]:
    """Return what a manifest says of a file that promises no equality with the Program.

    program  the Program.
    inputs   integers (N, ...) of its ports, one list an image.
    run      runs the file on one list of integers.
    layers   what `layer_exactness` found; None where layers could not be compared.

    Returns "max_lsb" of the outputs and "exactness".
    """
    largest, equal, compared = 0, 0, 0
    for ints in inputs:
        for mine, theirs in zip(program.run(*ints), run(*ints), strict=True):
            distance = np.abs(mine.astype(np.int64) - theirs)
            largest = max(largest, int(distance.max(initial=0)))
            equal, compared = equal + int((distance == 0).sum()), compared + distance.size
    outputs = {"images": len(inputs), "equal integers of outputs": round(equal / compared, 7)}
    if layers is None:
        return {"max_lsb": largest, "exactness": {"note": "max_lsb is of the outputs", **outputs}}
    differing = {name: layer for name, layer in layers.items() if layer.equal < layer.compared}
    return {
        "max_lsb": largest,
        "exactness": {
            "note": "max_lsb is of the outputs; a layer is compared with what the Program computes "
            "from the integers that the runtime gave for the layers before it",
            **outputs,
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


def run_in_batches(
    run: Callable[..., Sequence[np.ndarray]], ints: Sequence[np.ndarray], batch: int
) -> list[np.ndarray]:
    """Run a file that takes a fixed number of images on any number of them.

    run    takes an array of `batch` images for each port.
    ints   the arrays (N, ...) of all images; the last image is repeated to fill the last run.
    batch  images a run.

    Returns the outputs of all images.
    """
    count, results = len(ints[0]), []
    for start in range(0, count, batch):
        places = np.minimum(np.arange(start, start + batch), count - 1)
        results.append(run(*[x[places] for x in ints]))
    return [np.concatenate(parts)[:count] for parts in zip(*results, strict=True)]


def _quartiles(values: Sequence[float]) -> list[float]:
    low, _, high = statistics.quantiles(values, n=4)
    return [round(low, 4), round(high, 4)]


def _share(layers: Collection[LayerExactness]) -> float:
    compared = sum(layer.compared for layer in layers)
    return round(sum(layer.equal for layer in layers) / compared, 7) if compared else 1.0


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
