"""The performance report of a bin: the vendor's field names and relations, modelled by qatspec.

Every figure follows from the schedule of the command stream (`qatspec.backend.schedule`): OPs are
twice the multiply-accumulates, DDR bytes are loaded plus stored, FPS is frames a run over latency,
a megabyte is 2^20 bytes. Nothing here is measured.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

from qatspec import __version__
from qatspec.backend.compiled import Compiled
from qatspec.backend.cost import macs, tail_us
from qatspec.backend.encode import decode
from qatspec.backend.schedule import Event, duration_us, schedule
from qatspec.backend.target import Target
from qatspec.diag import Diagnostic, Note
from qatspec.diag.codes import QS805, QS813
from qatspec.diag.words import quote_list
from qatspec.files import encoded, write_file
from qatspec.program import Artifact
from qatspec.render import clean_file

NOTE = (
    "modelled by qatspec from public figures, not measured; the bin is qatspec's own format, "
    "not the vendor compiler's"
)
HOST_HEADER = ["layer", "why the chip does not run it", "cost"]
HEADER = ["layer", "ops", "computing cost (no DDR)", "load/store cost"]
#: Slices of the run for which bandwidth and utilization are listed.
INTERVALS = 20
#: Layers that a warning names; a detector with SiLU has eighty on X3's CPU.
NAMED = 8
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Timing:
    """A compiled file and when its commands run.

    compiled  what the file holds, decoded.
    events    a command's start and end in us, in the order of the stream.
    """

    compiled: Compiled
    events: tuple[Event, ...]

    @property
    def latency(self) -> float:
        """The microseconds that a run takes in all."""
        return duration_us(self.events, self.compiled)

    def under(self, target: Target) -> Timing:
        """Schedule the same commands with the figures of another target.

        target  with the memory and alignment of the file's target, since addresses stay.

        Returns the new times.
        """
        compiled = replace(self.compiled, target=target)
        return Timing(compiled, schedule(compiled))


def perf_page(artifact: Artifact) -> str:
    """The page that `write_perf` writes. Raises DiagnosticError as `perf`, and QS921 where its
    charts cannot be drawn."""
    from qatspec.backend.perf_page import render  # reads this module

    timed = timing(artifact)
    return render(_summary(artifact, timed), timed, needs_charts=True)


def timing(artifact: Artifact) -> Timing:
    """Schedule a compiled file.

    artifact  what `assemble` gave.

    Returns when each command runs. Raises DiagnosticError: QS805 where the march has no model of
    time, QS811 for a damaged file.
    """
    if "commands" not in artifact.sections:
        raise QS805.error(
            f"there is no performance model for {artifact.march}",
            help="measure Artifact.run, or compile for bernoulli2 or bayes",
        )
    compiled = decode(artifact)
    return Timing(compiled, schedule(compiled))


def perf(artifact: Artifact) -> dict[str, Any]:
    """Model the performance of a compiled file: the same report for the same bin.

    artifact  what `assemble` gave.

    Returns JSON data, {"summary": {...}}; each key names its unit ("latency (us)"). The figures are
    modelled, not measured. Source: the figures of `Hardware`. Raises DiagnosticError: QS805 where
    the march has no model of time, QS811 for a damaged bin.
    """
    return {"summary": _summary(artifact, timing(artifact))}


def write_perf(artifact: Artifact, stem: str | os.PathLike[str]) -> tuple[Path, ...]:
    """Write the modelled performance of a compiled file as `<stem>.perf.json` and
    `<stem>.perf.html`.

    artifact  what a march's `compile` gave.
    stem      the path of both files without the suffixes.

    Returns their paths; none for an artifact whose march has no model of time (its files are run
    and measured instead). Raises DiagnosticError as `perf`.
    """
    from qatspec.backend.perf_page import render  # reads this module

    if "commands" not in artifact.sections:
        return ()
    measured = timing(artifact)
    report = {"summary": _summary(artifact, measured)}
    text = json.dumps(report, indent=2, allow_nan=False) + "\n"
    page = clean_file(render(report["summary"], measured, needs_charts=False))
    files = []
    for suffix, content in ((".perf.json", text), (".perf.html", page)):
        path = Path(os.fspath(stem) + suffix)
        write_file(path, encoded(content))
        files.append(path)
    return tuple(files)


def _summary(artifact: Artifact, timed: Timing) -> dict[str, Any]:
    compiled, events, latency = timed.compiled, timed.events, timed.latency
    target = compiled.target
    ops = sum(2 * macs(op, compiled.program) for op in compiled.program.ops)
    loaded = sum(e.moved for e in events if e.command.code in ("weight", "load"))
    stored = sum(e.moved for e in events if e.command.code == "store")
    frames, moved = compiled.frames, loaded + stored
    runs = 1e6 / latency if latency else 0.0
    fps = runs * frames
    return {
        "model name": compiled.program.name,
        "note": NOTE,
        "BPU march": target.march,
        "BPU core number": compiled.cores,
        "BPU PE number": target.hardware.macs_per_cycle * compiled.cores,
        "compiling options": f"--march {target.march} --opt {compiled.opt} --core {compiled.cores}"
        + (f" --batch {frames}" if frames > 1 else ""),
        "HBDK version": f"none: qatspec {__version__}",
        "runtime version": f"qatspec {__version__}",
        "model json CRC": artifact.manifest["program"][:16],
        "model param CRC": f"{crc32(compiled.weights):08x}",
        "frame per run": frames,
        "BPU OPs per frame (effective)": ops,
        "BPU OPs per run (effective)": ops * frames,
        "BPU OPs per frame (working)": ops,
        "BPU OPs per run (working)": ops * frames,
        "latency (ms)": _round(latency / 1e3),
        "latency (us)": _round(latency),
        "latency (ms) by segments": _segments(timed),
        "latency of the CPU's parts (ms)": _round(sum(_host_times(timed).values()) / 1e3),
        "tail on the CPU, not in the latency (ms)": _round(
            tail_us(compiled.program, target, frames) / 1e3
        ),
        "latency error": target.hardware.accuracy or "not compared with published times",
        "multicore sync time (ms)": 0.0,
        "FPS": _round(fps),
        "worst FPS": _round(fps),
        "FPS, a frame on each core": _round(_saturated_fps(timed, moved)),
        "frame per second": _round(fps),
        "run per second": _round(runs),
        "loaded bytes per frame": moved // frames - stored // frames,
        "loaded bytes per run": loaded,
        "stored bytes per frame": stored // frames,
        "stored bytes per run": stored,
        "DDR bytes per frame": moved // frames,
        "DDR bytes per run": moved,
        "DDR bytes per second": _round(moved * runs),
        "DDR megabytes per frame": _round(moved / frames / MIB),
        "DDR megabytes per run": _round(moved / MIB),
        "DDR megabytes per second": _round(moved * runs / MIB),
        "on-chip bytes used": compiled.onchip_bytes,
        "on-chip bytes": target.hardware.onchip_bytes,
        "input features": [["input feature", "dtype", "shape (without batch)"]]
        + [[p.name, p.dtype, "x".join(map(str, p.shape))] for p in artifact.inputs],
        **_intervals(timed),
        "CPU parts": [HOST_HEADER, *_host_parts(timed)],
        "layer details": [HEADER, *_layers(timed)],
    }


def _saturated_fps(timed: Timing, moved: int) -> float:
    """Frames a second with every core of the chip busy with frames of its own, as far as DDR
    carries their traffic."""
    hardware = timed.compiled.target.hardware
    runs = hardware.cores // timed.compiled.cores
    if not timed.latency:
        return 0.0
    shared = 1e6 * hardware.ddr_bytes_per_us / moved if moved else float("inf")
    alone = 1e6 / timed.latency
    return timed.compiled.frames * min(runs * alone, max(shared, alone))


def _round(value: float) -> float:
    """Six decimals: a thousandth of a nanosecond, and short JSON."""
    return round(value, 6)


def _layers(timed: Timing) -> list[list[str]]:
    """One row a layer: name, OPs, time of the cores, time of its DDR traffic."""
    compiled = timed.compiled
    compute = [0.0] * len(compiled.layers)
    traffic = [0.0] * len(compiled.layers)
    rate = compiled.target.hardware.ddr_bytes_per_us
    for event in timed.events:
        if event.command.code in ("execute", "host"):
            compute[event.command.layer] += event.end - event.start
        else:
            traffic[event.command.layer] += event.moved / rate
    return [
        [
            layer.name,
            f"{sum(2 * macs(op, compiled.program) for op in layer.ops) * compiled.frames:,}",
            _cost(compute[layer.index], timed.latency),
            _cost(traffic[layer.index], timed.latency),
        ]
        for layer in compiled.layers
    ]


def _segments(timed: Timing) -> list[float]:
    """The times (ms) of the parts of a run that the chip and the CPU take in turn."""
    times: list[float] = []
    for _, some in groupby(timed.events, lambda event: event.command.code == "host"):
        part = list(some)
        times.append(_round((max(e.end for e in part) - min(e.start for e in part)) / 1e3))
    return times


def _host_times(timed: Timing) -> dict[int, float]:
    """Layer -> time (us) of the CPU."""
    events = (event for event in timed.events if event.command.code == "host")
    return {event.command.layer: event.end - event.start for event in events}


def _host_parts(timed: Timing) -> list[list[str]]:
    """One row for each layer that the CPU runs: name, reason, time."""
    compiled, rows = timed.compiled, []
    for index, time in _host_times(timed).items():
        layer = compiled.layers[index]
        reasons = dict.fromkeys(compiled.target.on_host(op) or "" for op in layer.ops)
        rows.append([layer.name, "; ".join(reasons), _cost(time, timed.latency)])
    return rows


def parts_on_the_cpu(summary: Mapping[str, Any]) -> list[Diagnostic]:
    """QS813, a warning with the price of each, for what a compiled file leaves to the CPU.

    summary  of `perf`, or of a march without a model of time; without "CPU parts", nothing is told.
    """
    _, *parts = summary.get("CPU parts") or [()]
    if not parts:
        return []
    names = quote_list([layer for layer, _, _ in parts[:NAMED]])
    more = len(parts) - NAMED
    notes = [f"`{layer}`, {cost}: {reason}" for layer, reason, cost in parts[:NAMED]]
    if more > 0:
        total = summary["latency of the CPU's parts (ms)"]
        names += f" and {more} more layers"
        notes.append(f"{total:.3f} ms for all {len(parts)}; perf.json and `perf --json` list them")
    return [
        QS813.warning(
            f"on {summary['BPU march']} the CPU beside the chip runs {names}",
            help="nothing is required; `stages.compile.chip_only: true` refuses them, and `qatspec "
            "perf SPEC --march all` compares other marches",
            notes=tuple(map(Note, notes)),
            at="/march",
        )
    ]


def _cost(time: float, latency: float) -> str:
    """ "29 us (0.1% of model)", as the vendor writes it."""
    share = 100 * time / latency if latency else 0.0
    shown = "0" if time == 0 else "<1 us" if time < 1 else f"{time:.0f} us"
    return f"{shown} ({share:.1f}% of model)" if time else "0"


def _intervals(timed: Timing) -> dict[str, Any]:
    """Utilization of the cores and bandwidth of the DMA queues over equal slices of the run."""
    length = timed.latency / INTERVALS
    cores = timed.compiled.cores

    def busy(events: Sequence[Event], index: int) -> list[float]:
        low, high = index * length, (index + 1) * length
        return [max(0.0, min(e.end, high) - max(e.start, low)) for e in events]

    def bandwidth(codes: tuple[str, ...], index: int) -> float:
        events = [e for e in timed.events if e.command.code in codes and e.end > e.start]
        times = busy(events, index)
        moved = sum(e.moved * t / (e.end - e.start) for e, t in zip(events, times, strict=True))
        return _round(moved / MIB / (length / 1e6)) if length else 0.0

    execs = [e for e in timed.events if e.command.code == "execute"]
    slices = range(INTERVALS)
    return {
        "interval number": INTERVALS,
        "interval time (ms)": _round(length / 1e3),
        "interval computing unit(s) utilization": [
            _round(sum(busy(execs, i)) / (length * cores)) if length else 0.0 for i in slices
        ],
        "interval loading bandwidth (megabytes/s)": [
            bandwidth(("weight", "load"), i) for i in slices
        ],
        "interval storing bandwidth (megabytes/s)": [bandwidth(("store",), i) for i in slices],
    }
