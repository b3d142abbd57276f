"""The memory plan: which values stay on chip, how every layer is tiled, and every address."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from qatspec.backend.layers import Layer
from qatspec.backend.packing import features_bytes
from qatspec.backend.region import full_box
from qatspec.backend.tile import Buffers, Tiler, Tiling
from qatspec.diag import Diagnostic, DiagnosticError, InternalError
from qatspec.diag.codes import QS802
from qatspec.program import Program

#: Shares of the on-chip memory that are tried: what does not fit by sum of bytes alone may fail
#: to fit as whole pieces, then a smaller plan is made.
_SHARES = (1.0, 0.9, 0.8, 0.7, 0.6, 0.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slots:
    """Addresses of a layer's buffers: a list of slots each, taken in turn."""

    inputs: dict[str, list[int]]
    constants: list[int]
    output: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """resident: value -> on-chip address; ddr: value -> DDR address; tilings and slots a layer."""

    resident: dict[str, int]
    ddr: dict[str, int]
    tilings: tuple[Tiling, ...]
    slots: tuple[Slots, ...]
    onchip_bytes: int
    ddr_bytes: int


@dataclass(frozen=True, slots=True)
class _Piece:
    """`size` bytes needed from layer `first` to layer `last`, both included."""

    size: int
    first: int
    last: int


def plan(layers: Sequence[Layer], tiler: Tiler) -> tuple[Tiler, MemoryPlan]:
    """Place everything; with fewer tiles in flight than the effort asks where memory is short.
    Gives the tiler with the depth that was used. Raises DiagnosticError QS802 with every layer that
    cannot fit, whatever the others take.
    """
    onchip = tiler.target.hardware.onchip_bytes
    failure: _TooLarge | None = None
    for depth in range(tiler.effort.depth, 0, -1):
        tiler = replace(tiler, effort=replace(tiler.effort, depth=depth))
        for share in _SHARES:
            try:
                placed = _attempt(layers, tiler, int(onchip * share))
            except _TooLarge as problem:
                failure = problem
                break
            if placed.onchip_bytes <= onchip:
                return tiler, placed
            failure = _TooLarge(layers[0], placed.onchip_bytes, onchip)
    if failure is None:
        raise InternalError("no memory plan was tried")
    least = [(la, tiler.buffers(la, tiler.smallest(la), frozenset()).total) for la in layers]
    alone = [_TooLarge(layer, size, onchip) for layer, size in least if size > onchip]
    raise DiagnosticError([problem.diagnostic() for problem in alone or [failure]])


class _TooLarge(Exception):
    """The smallest tile of a layer does not fit the remaining memory."""

    def __init__(self, layer: Layer, needed: int, space: int) -> None:
        super().__init__(layer.name)
        self.layer, self.needed, self.space = layer, needed, max(space, 0)

    def diagnostic(self) -> Diagnostic:
        return QS802.diagnostic(
            f"`{self.layer.name}` does not fit the on-chip memory: its smallest tile "
            f"needs {self.needed} bytes, {self.space} are left",
            help="make the layer smaller: fewer channels, a smaller input",
            at=self.layer.ops[0].origin.rule or None,
        )


def _attempt(layers: Sequence[Layer], tiler: Tiler, budget: int) -> MemoryPlan:
    """Place everything within `budget` bytes by sum; the whole pieces may take more.
    Raises _TooLarge."""
    resident = _residents(layers, tiler, budget) if tiler.effort.resident else frozenset()
    return _assign_addresses(layers, tiler, _tilings(layers, tiler, budget, resident), resident)


def _lifetimes(layers: Sequence[Layer], program: Program) -> dict[str, tuple[int, int]]:
    """Value -> (layer that makes it, last layer that reads it); inputs are there from the start,
    outputs to the end."""
    lives = {port.name: (0, 0) for port in program.inputs}
    for layer in layers:
        for name in layer.inputs:
            lives[name] = (lives[name][0], layer.index)
        lives[layer.output] = (layer.index, layer.index)
    for port in program.outputs:
        lives[port.name] = (lives[port.name][0], len(layers))
    return lives


def _residents(layers: Sequence[Layer], tiler: Tiler, budget: int) -> frozenset[str]:
    """Values that stay on chip from the layer that makes them to the last that reads them: those
    that spare most traffic for their stay first, as long as every layer keeps space to run."""
    program, depth = tiler.program, tiler.effort.depth
    readers: dict[str, list[int]] = {}
    for layer in layers:
        for name in layer.inputs:
            readers.setdefault(name, []).append(layer.index)
    makers = {layer.output: layer.index for layer in layers}
    candidates = [name for name in readers if name in makers]

    def gain(name: str) -> tuple[float, int]:
        stay = readers[name][-1] - makers[name] + 1
        return -(1 + len(readers[name])) / stay, makers[name]

    least = [tiler.buffers(la, tiler.smallest(la), frozenset()).total for la in layers]
    held = [0] * len(layers)
    chosen: frozenset[str] = frozenset()
    for name in sorted(candidates, key=gain):
        size = features_bytes(
            program.values[name], full_box(program.values[name].shape), tiler.target
        )
        touched = {makers[name], *readers[name]}
        tried = chosen | {name}
        new = {
            i: tiler.buffers(layers[i], tiler.smallest(layers[i]), tried).total
            for i in sorted(touched)
        }
        span = range(makers[name], readers[name][-1] + 1)
        if all(
            held[i] + size + sum(new.get(k, least[k]) for k in _ahead(i, depth, len(layers)))
            <= budget
            for i in span
        ):
            chosen = tried
            for i in span:
                held[i] += size
            for i, least_bytes in new.items():
                least[i] = least_bytes
    return chosen


def _ahead(index: int, depth: int, count: int) -> range:
    """The layers whose buffers are in use while layer `index` runs: it and the prefetched."""
    return range(index, min(index + depth, count))


def _tilings(
    layers: Sequence[Layer], tiler: Tiler, budget: int, resident: frozenset[str]
) -> tuple[Tiling, ...]:
    """A tiling for every layer, within what residents and neighbours leave."""
    program, depth, count = tiler.program, tiler.effort.depth, len(layers)
    lives = _lifetimes(layers, program)
    used = [0] * count
    for name in resident:
        size = features_bytes(
            program.values[name], full_box(program.values[name].shape), tiler.target
        )
        for i in range(lives[name][0], min(lives[name][1], count - 1) + 1):
            used[i] += size
    least = [tiler.buffers(la, tiler.smallest(la), resident).total for la in layers]
    found = []
    for layer in layers:
        window = range(max(0, layer.index - depth + 1), layer.index + 1)
        space = min(
            budget - used[i] - sum(least[k] for k in _ahead(i, depth, count) if k > layer.index)
            for i in window
        )
        tiling = tiler.choose(layer, space, resident)
        if tiling is None:
            raise _TooLarge(layer, least[layer.index], space)
        taken = tiler.buffers(layer, tiling, resident).total
        for i in window:
            used[i] += taken
        found.append(tiling)
    return tuple(found)


def _assign_addresses(
    layers: Sequence[Layer], tiler: Tiler, tilings: Sequence[Tiling], resident: frozenset[str]
) -> MemoryPlan:
    """Addresses for every resident value, every slot of every buffer and every value in DDR."""
    program, target = tiler.program, tiler.target
    lives = _lifetimes(layers, program)

    def piece(name: str) -> _Piece:
        value = program.values[name]
        return _Piece(features_bytes(value, full_box(value.shape), target), *lives[name])

    made = [layer.output for layer in layers]
    stays = [name for name in made if name in resident]
    sized = [
        tiler.buffers(layer, tiling, resident)
        for layer, tiling in zip(layers, tilings, strict=True)
    ]
    pieces = [piece(name) for name in stays]
    for layer, buffers in zip(layers, sized, strict=True):
        first = max(0, layer.index - tiler.effort.depth + 1)
        pieces += [_Piece(size, first, layer.index) for size in _slot_sizes(buffers)]
    addresses, onchip_bytes = _first_fit(pieces)
    at = iter(addresses)
    kept = {name: next(at) for name in stays}
    slots = tuple(_slots(buffers, at) for buffers in sized)

    ports = {port.name for port in (*program.inputs, *program.outputs)}
    offchip = list(
        dict.fromkeys(
            [p.name for p in program.inputs]
            + [name for name in made if name not in resident or name in ports]
        )
    )
    # ports keep a place of their own: the host writes inputs before and reads outputs after a run
    homes = [
        _Piece(piece(name).size, 0, len(layers)) if name in ports else piece(name)
        for name in offchip
    ]
    ddr_addresses, ddr_bytes = _first_fit(homes)
    return MemoryPlan(
        resident=kept,
        ddr=dict(zip(offchip, ddr_addresses, strict=True)),
        tilings=tuple(tilings),
        slots=slots,
        onchip_bytes=onchip_bytes,
        ddr_bytes=ddr_bytes,
    )


def _slot_sizes(buffers: Buffers) -> list[int]:
    inputs = [size for size in buffers.inputs.values() for _ in range(buffers.input_slots)]
    constants = [buffers.constants] * buffers.constant_slots
    return inputs + constants + [buffers.output] * buffers.output_slots


def _slots(buffers: Buffers, addresses: Iterable[int]) -> Slots:
    """Take the addresses of `_slot_sizes` back into their places."""
    at = iter(addresses)
    return Slots(
        inputs={name: [next(at) for _ in range(buffers.input_slots)] for name in buffers.inputs},
        constants=[next(at) for _ in range(buffers.constant_slots)],
        output=[next(at) for _ in range(buffers.output_slots)],
    )


def _first_fit(pieces: Sequence[_Piece]) -> tuple[list[int], int]:
    """An address for each piece, such that pieces alive at one time never overlap, and the bytes
    used in all. Large pieces first, each at the lowest address that is free for its life."""
    placed: list[tuple[int, _Piece]] = []
    addresses = [0] * len(pieces)
    order = sorted(range(len(pieces)), key=lambda i: (-pieces[i].size, pieces[i].first, i))
    for i in order:
        piece, address = pieces[i], 0
        for start, other in sorted(placed, key=lambda p: p[0]):
            apart = other.last < piece.first or piece.last < other.first
            if not apart and address < start + other.size and start < address + piece.size:
                address = start + other.size
        addresses[i] = address
        placed.append((address, piece))
    used = max((a + p.size for a, p in zip(addresses, pieces, strict=True)), default=0)
    return addresses, used
