"""The command stream of a bin as text, one line a command."""

from __future__ import annotations

from collections.abc import Iterator

from qatspec.backend.commands import Command
from qatspec.backend.compiled import Compiled
from qatspec.backend.region import Box


def listing(compiled: Compiled) -> Iterator[str]:
    """Return the lines of a decoded bin: a head for each run of commands of one layer (name, ops,
    line of the model), then its commands with values, channels, rows and addresses on chip."""
    names = list(compiled.program.values)
    layer = -1
    for command in compiled.commands:
        if command.layer != layer:
            layer = command.layer
            ops = compiled.layers[layer].ops
            source = f"  # {ops[0].origin.source}" if ops[0].origin.source else ""
            kinds = ", ".join(op.kind for op in ops)
            yield f"{compiled.layers[layer].name}: {kinds}{source}"
        yield f"  {command.code:7} {_WORDS[command.code](command, names, compiled)}"


def _weight(command: Command, names: list[str], compiled: Compiled) -> str:
    consts = " ".join(compiled.layers[command.layer].consts)
    return f"{consts} channels {command.box.c0}..{command.box.c1} -> {command.address:#x}"


def _load(command: Command, names: list[str], compiled: Compiled) -> str:
    buffer = _buffer(command.address, command.buffer)
    return f"{names[command.value]}{_part(command.box)} -> {buffer}"


def _store(command: Command, names: list[str], compiled: Compiled) -> str:
    buffer = _buffer(command.address, command.buffer)
    return f"{buffer} -> {names[command.value]}{_part(command.box)}"


def _execute(command: Command, names: list[str], compiled: Compiled) -> str:
    layer = compiled.layers[command.layer]
    pairs = zip(layer.inputs, command.operands, strict=True)
    reads = [f"{name} at {_buffer(o.address, o.box)}" for name, o in pairs]
    reads += [f"constants at {command.constants:#x}"] if layer.consts else []
    core = f"core {command.core}: " if compiled.cores > 1 else ""
    result = f"{layer.output}{_part(command.box)} at {_buffer(command.address, command.buffer)}"
    return f"{core}{result} = {', '.join(reads)}"


def _host(command: Command, names: list[str], compiled: Compiled) -> str:
    layer = compiled.layers[command.layer]
    return f"{layer.output} = {', '.join(layer.inputs)}"


_WORDS = {
    "weight": _weight, "load": _load, "store": _store, "execute": _execute, "host": _host,
}  # fmt: skip


def _part(box: Box) -> str:
    return f"[{box.c0}..{box.c1}, {box.h0}..{box.h1}]"


def _buffer(address: int, box: Box) -> str:
    """An address and the rows of the ring that begins there."""
    return f"{address:#x} ({box.rows} rows)"
