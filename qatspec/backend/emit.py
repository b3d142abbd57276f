"""From a memory plan to the command stream, software-pipelined: while a tile is computed, the
loads of the next ones are under way."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from qatspec.backend.commands import Command, Operand
from qatspec.backend.layers import Layer
from qatspec.backend.memory import MemoryPlan
from qatspec.backend.region import Box, full_box, layer_needs
from qatspec.backend.tile import Tiler


@dataclass(slots=True)
class _Tile:
    """The state of one tile: the addresses of its constants and operands once they are loaded."""

    layer: Layer
    box: Box
    core: int
    constants: int | None = None
    operands: tuple[Operand, ...] | None = None


@dataclass(slots=True)
class _Emitter:
    layers: Sequence[Layer]
    tiler: Tiler
    plan: MemoryPlan
    index: dict[str, int]  # value -> its number in the stream
    makers: dict[str, int] = field(default_factory=dict)  # value -> layer that makes it
    held: dict[tuple[int, str], Operand] = field(default_factory=dict)
    turn: dict[tuple[int, str], int] = field(default_factory=dict)

    def tiles(self) -> list[_Tile]:
        return [
            _Tile(layer, box, number % self.tiler.cores)
            for layer, tiling in zip(self.layers, self.plan.tilings, strict=True)
            for number, box in enumerate(self.tiler.boxes(layer, tiling))
        ]

    def stream(self) -> Iterator[Command]:
        """Before each tile: the constants of the tiles ahead, and those of their inputs that are
        complete (a value that the current layer still stores is loaded when its tile's turn
        comes)."""
        tiles = self.tiles()
        depth = self.tiler.effort.depth
        for now, tile in enumerate(tiles):
            for ahead in tiles[now : now + depth]:
                yield from self._constants(ahead)
                if ahead is tile or self._ready(ahead, tile.layer.index):
                    yield from self._inputs(ahead)
            yield from self._execute(tile, now)

    def _ready(self, tile: _Tile, running: int) -> bool:
        streamed = [n for n in tile.layer.inputs if n not in self.plan.resident]
        return all(self.makers.get(name, -1) < running for name in streamed)

    def _constants(self, tile: _Tile) -> Iterator[Command]:
        if tile.constants is not None:
            return
        layer = tile.layer
        box = Box(tile.box.c0, tile.box.c1, 0, 1)
        held = self.held.get((layer.index, ""))
        if held is not None and held.box == box:
            tile.constants = held.address
            return
        tile.constants = self._slot(layer.index, "", self.plan.slots[layer.index].constants)
        self.held[layer.index, ""] = Operand(tile.constants, box)
        if layer.consts:
            yield Command(
                code="weight", layer=layer.index, value=0, address=tile.constants,
                box=box, buffer=box, core=tile.core,
            )  # fmt: skip

    def _inputs(self, tile: _Tile) -> Iterator[Command]:
        if tile.operands is not None:
            return
        layer, operands = tile.layer, []
        needs = layer_needs(layer, tile.box, self.tiler.program)
        for name in layer.inputs:
            if name in self.plan.resident:
                shape = self.tiler.program.values[name].shape
                operands.append(Operand(self.plan.resident[name], full_box(shape)))
                continue
            operand = self.held.get((layer.index, name))
            if operand is None or operand.box != needs[name]:
                slots = self.plan.slots[layer.index].inputs[name]
                operand = Operand(self._slot(layer.index, name, slots), needs[name])
                self.held[layer.index, name] = operand
                yield Command(
                    code="load", layer=layer.index, value=self.index[name],
                    address=operand.address, box=operand.box, buffer=operand.box, core=tile.core,
                )  # fmt: skip
            operands.append(operand)
        tile.operands = tuple(operands)

    def _execute(self, tile: _Tile, number: int) -> Iterator[Command]:
        layer = tile.layer
        stays = layer.output in self.plan.resident
        if stays:
            shape = self.tiler.program.values[layer.output].shape
            address, buffer = self.plan.resident[layer.output], full_box(shape)
        else:
            slots = self.plan.slots[layer.index].output
            address, buffer = self._slot(layer.index, "->", slots), tile.box
        value = self.index[layer.output]
        yield Command(
            code="execute", layer=layer.index, value=value, address=address, box=tile.box,
            buffer=buffer, core=tile.core, constants=tile.constants or 0,
            operands=tile.operands or (),
        )  # fmt: skip
        if layer.output in self.plan.ddr:
            yield Command(
                code="store", layer=layer.index, value=value, address=address, box=tile.box,
                buffer=buffer, core=tile.core,
            )  # fmt: skip

    def _slot(self, layer: int, buffer: str, slots: list[int]) -> int:
        """The next slot of a buffer, in turn."""
        turn = self.turn.get((layer, buffer), 0)
        self.turn[layer, buffer] = turn + 1
        return slots[turn % len(slots)]


def emit(layers: Sequence[Layer], tiler: Tiler, plan: MemoryPlan) -> tuple[Command, ...]:
    """The command stream of a planned program."""
    index = {name: i for i, name in enumerate(tiler.program.values)}
    makers = {layer.output: layer.index for layer in layers}
    return tuple(_Emitter(layers, tiler, plan, index, makers).stream())
