"""What a compiled file does on its chip: the modelled timeline, and time and traffic by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qatspec.backend.cost import macs
from qatspec.backend.lanes import MEANING, lane_names, lane_of, stretches
from qatspec.backend.perf import MIB, Timing, timing
from qatspec.backend.profile import Spill, on_chip, reason, spent, spills
from qatspec.program import Artifact

#: Stretches of the timeline that are closer than this share of the run are drawn as one.
_MERGE = 1 / 1500
#: Times at which the memory on chip is drawn.
_POINTS = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer on the chip.

    node   of the model, as decisions name it ("backbone:conv_3"); "" where it has none.
    us     time that a core computes, in microseconds; ops: twice its multiply-accumulates.
    moved  bytes through DDR, weights included.
    """

    name: str
    node: str
    kind: str
    us: float
    ops: int
    moved: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A run of a compiled file, modelled.

    latency   of a frame, in microseconds.
    timeline  {lane, what, start, end} of each stretch, in microseconds.
    held      (time, bytes of values, bytes of constants) on chip, where it changes.
    spilled   (value, reason) of each that passes through DDR, the most bytes first.
    onchip, onchip_size: bytes used of the memory on the chip; ops_per_us, bytes_per_us: the most
    that the cores compute and that DDR moves.
    """

    march: str
    latency: float
    timeline: list[dict[str, Any]]
    layers: list[Layer]
    held: list[tuple[float, int, int]]
    spilled: list[tuple[Spill, str]]
    onchip: int
    onchip_size: int
    ops_per_us: float
    bytes_per_us: float

    @property
    def megabytes(self) -> float:
        """Through DDR a frame, in units of 2^20 bytes."""
        return sum(layer.moved for layer in self.layers) / MIB


def open_chip(path: Path) -> Chip | None:
    """Model the compiled file at `path`.

    Returns None where its march has no model of time. Raises DiagnosticError for a damaged file.
    """
    artifact = Artifact.load(path)
    return chip_of(timing(artifact)) if "commands" in artifact.sections else None


def chip_of(timed: Timing) -> Chip:
    """The run of a compiled file whose schedule is known."""
    held = on_chip(timed)
    compiled, hardware = timed.compiled, timed.compiled.target.hardware
    return Chip(
        march=compiled.target.march,
        latency=timed.latency,
        timeline=_timeline(timed),
        layers=_layers(timed),
        held=_thinned(held),
        spilled=[(spill, reason(spill, timed, held)) for spill in spills(timed)],
        onchip=compiled.onchip_bytes,
        onchip_size=hardware.onchip_bytes,
        ops_per_us=2.0 * hardware.macs_per_cycle * compiled.cores * hardware.clock_mhz,
        bytes_per_us=hardware.ddr_bytes_per_us,
    )


def _thinned(held: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    """At most `_POINTS` times: of as many neighbours as there need to be, the fullest."""
    size = -(-len(held) // _POINTS)
    parts = [held[start : start + size] for start in range(0, len(held), size)]
    return [max(part, key=lambda row: row[1] + row[2]) for part in parts[:-1]] + parts[-1][-1:]


def _timeline(timed: Timing) -> list[dict[str, Any]]:
    cores = timed.compiled.cores
    lanes = lane_names(timed.events, cores)
    rows = []
    for lane, name in enumerate(lanes):
        events = [event for event in timed.events if lane_of(event, cores) == lane]
        for code, start, end in stretches(events, timed.latency * _MERGE):
            row = {"lane": name, "what": MEANING[code]}
            rows.append({**row, "start": round(start, 2), "end": round(end, 2)})
    return rows


def _layers(timed: Timing) -> list[Layer]:
    compiled = timed.compiled
    us, moved = spent(timed)
    return [
        Layer(
            name=layer.name,
            node=next((op.origin.node for op in layer.ops if op.origin.node), ""),
            kind=layer.ops[0].kind,
            us=us[layer.index],
            ops=sum(2 * macs(op, compiled.program) for op in layer.ops) * compiled.frames,
            moved=moved[layer.index],
        )
        for layer in compiled.layers
    ]
