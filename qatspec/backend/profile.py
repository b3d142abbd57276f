"""Where the time of a compiled file goes: by layer, by value that passes through DDR, and by what
lies on chip over time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from qatspec.backend.cost import macs
from qatspec.backend.packing import constant_spans, features_bytes
from qatspec.backend.region import Box, full_box

if TYPE_CHECKING:
    from qatspec.backend.perf import Timing

KIB = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """A layer of a compiled file.

    index, name, source  of the layer; source: line of the model, "" where it is not known.
    us       time of the cores, or of the CPU (`host`); ddr_us: of its traffic.
    macs     multiply-adds; filled: their share of what the array could do in `us`, 0 to 1.
    """

    index: int
    name: str
    source: str
    kind: str
    us: float
    ddr_us: float
    macs: int
    filled: float
    host: bool = False


@dataclass(slots=True, kw_only=True)
class Spill:
    """A value that passes through DDR between layers of the chip.

    value   its name; layer: the one that makes it; source: line of the model.
    size    bytes on chip of the complete value; stored, loaded: bytes that are moved.
    start, end  when it is stored first and loaded last, in us.
    """

    value: str
    layer: str
    source: str
    size: int
    stored: int = 0
    loaded: int = 0
    start: float = 0.0
    end: float = 0.0
    readers: list[str] = field(default_factory=list)
    host: bool = False

    @property
    def moved(self) -> int:
        """Bytes through DDR."""
        return self.stored + self.loaded


def spent(timed: Timing) -> tuple[list[float], list[int]]:
    """(microseconds of the cores, bytes through DDR) of every layer."""
    compiled = timed.compiled
    us, moved = [0.0] * len(compiled.layers), [0] * len(compiled.layers)
    for event in timed.events:
        if event.command.code in ("execute", "host"):
            us[event.command.layer] += event.end - event.start
        else:
            moved[event.command.layer] += event.moved
    return us, moved


def costs(timed: Timing) -> tuple[Cost, ...]:
    """Every layer, the dearest first: by time of the cores plus that of its traffic."""
    compiled = timed.compiled
    hardware = compiled.target.hardware
    us, moved = spent(timed)
    rows = []
    for layer in compiled.layers:
        count, time = sum(macs(op, compiled.program) for op in layer.ops), us[layer.index]
        count *= compiled.frames
        possible = hardware.macs_per_cycle * hardware.clock_mhz * time
        rows.append(
            Cost(
                index=layer.index,
                name=layer.name,
                source=layer.ops[0].origin.source,
                kind=layer.ops[0].kind,
                us=time,
                ddr_us=moved[layer.index] / hardware.ddr_bytes_per_us,
                macs=count,
                filled=count / possible if possible and not layer.host else 0.0,
                host=layer.host,
            )
        )
    return tuple(sorted(rows, key=lambda row: (-(row.us + row.ddr_us), row.index)))


def spills(timed: Timing) -> tuple[Spill, ...]:
    """The values between layers that pass through DDR, the most bytes first."""
    compiled = timed.compiled
    names = list(compiled.program.values)
    ports = {port.name for port in (*compiled.program.inputs, *compiled.program.outputs)}
    makers = {layer.output: layer for layer in compiled.layers}
    hosts = {n for layer in compiled.layers if layer.host for n in (*layer.inputs, layer.output)}
    spilled: dict[str, Spill] = {}
    for event in timed.events:
        command = event.command
        name = names[command.value]
        if command.code not in ("load", "store") or name in ports:
            continue
        layer = makers.get(name) or compiled.layers[command.layer]
        value = compiled.program.values[name]
        size = features_bytes(value, full_box(value.shape), compiled.target) * compiled.frames
        one = spilled.setdefault(
            name,
            Spill(
                value=name, layer=layer.name, source=layer.ops[0].origin.source, size=size,
                start=event.start, host=name in hosts,
            ),
        )  # fmt: skip
        one.end = max(one.end, event.end)
        if command.code == "store":
            one.stored += event.moved
        else:
            one.loaded += event.moved
            reader = compiled.layers[command.layer].name
            if reader not in one.readers:
                one.readers.append(reader)
    return tuple(sorted(spilled.values(), key=lambda one: (-one.moved, one.value)))


def on_chip(timed: Timing) -> list[tuple[float, int, int]]:
    """What lies on chip over time: (us, bytes of values, bytes of constants) at every time where it
    changes. A buffer is there from its first use until its last one before another one overlaps
    it."""
    lives = _lives(timed)
    steps: dict[float, list[int]] = defaultdict(lambda: [0, 0])
    for life in lives:
        kind = 1 if life.constants else 0
        steps[life.start][kind] += life.size
        steps[life.end][kind] -= life.size
    rows, now = [(0.0, 0, 0)], [0, 0]
    for time in sorted(steps):
        now = [a + b for a, b in zip(now, steps[time], strict=True)]
        rows.append((time, now[0], now[1]))
    return rows


def reason(spill: Spill, timed: Timing, held: Sequence[tuple[float, int, int]]) -> str:
    """Why a value is not kept on chip. held: result of `on_chip`."""
    size = timed.compiled.target.hardware.onchip_bytes
    if spill.host:
        return "the CPU reads or writes it, in DDR"
    if spill.size > size:
        return f"it has {spill.size // KIB:,} KB, the memory on chip {size // KIB:,}"
    until = [a + b for time, a, b in held if spill.start <= time <= spill.end]
    busiest = max(until, default=0)
    if spill.size + busiest > size:
        readers = spill.readers[-1] if spill.readers else "the end"
        return (
            f"it has {spill.size // KIB:,} KB and waits for `{readers}`; until then others hold up "
            f"to {busiest // KIB:,} of {size // KIB:,} KB"
        )
    return "it would fit beside what lies there; of the plans that were tried, this one is the best"


@dataclass(slots=True)
class _Life:
    low: int
    high: int
    start: float
    end: float
    constants: bool

    @property
    def size(self) -> int:
        return self.high - self.low


def _lives(timed: Timing) -> list[_Life]:
    """Every buffer on chip, from its first use to its last one."""
    compiled = timed.compiled
    names, homes = list(compiled.program.values), compiled.homes
    current: dict[tuple[int, int], _Life] = {}
    ended: list[_Life] = []

    def touch(low: int, size: int, start: float, end: float, constants: bool) -> None:
        high = low + size
        life = current.get((low, high))
        if life is None or life.constants != constants:
            for key in [k for k in current if k[0] < high and low < k[1]]:
                old = current.pop(key)
                old.end = min(old.end, max(start, old.start))
                ended.append(old)
            life = current[low, high] = _Life(low, high, start, end, constants)
        life.start, life.end = min(life.start, start), max(life.end, end)

    def hold(root: str, address: int, box: Box, span: tuple[float, float]) -> None:
        size = features_bytes(compiled.program.values[root], box, compiled.target) * compiled.frames
        touch(address, size, *span, False)

    for event in timed.events:
        command, span = event.command, (event.start, event.end)
        layer = compiled.layers[command.layer]
        if command.code == "weight" or (command.code == "execute" and layer.consts):
            address = command.address if command.code == "weight" else command.constants
            size = constant_spans(layer, command.box, compiled.program, compiled.packed)[1]
            touch(address, size, *span, True)
        if command.code in ("load", "store", "execute"):
            hold(names[command.value], command.address, command.buffer, span)
        for name, operand in zip(layer.inputs, command.operands, strict=False):
            hold(homes[name].root, operand.address, operand.box, span)
    return [*ended, *current.values()]
