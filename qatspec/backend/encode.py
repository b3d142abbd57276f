"""A compiled program as the sections of an Artifact, and back from the bytes alone.

commands  the command stream
layers    JSON: what the commands' layers compute, and the shapes of values, all by number
          (`qatspec.backend.records`)
weights   the constants, packed for the march
layout    JSON: where each constant lies in `weights`
memory    JSON: target figures, options, addresses in DDR
origins   JSON: names and scales of values, and where each op comes from; for listings and
          diagnostics alone: a file without it runs
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from qatspec.backend import commands as stream
from qatspec.backend.compiled import Compiled
from qatspec.backend.dataflow import check_dataflow
from qatspec.backend.layers import layers_of
from qatspec.backend.packing import Packed, pack_constant, unpack_constant
from qatspec.backend.records import Names, layers_record, origins_record, read_layers
from qatspec.backend.target import Target
from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS811
from qatspec.program import Artifact, Program, digest

#: What a hostile section can make its readers raise.
_BROKEN = (KeyError, TypeError, ValueError, IndexError, OverflowError, RecursionError)


def pack_weights(program: Program, packed: Mapping[str, Packed]) -> bytes:
    """The weights section: every constant at its place."""
    end = max((p.offset + p.size for p in packed.values()), default=0)
    data = bytearray(end)
    for name, p in packed.items():
        data[p.offset : p.offset + p.size] = pack_constant(program.consts[name], p)
    return bytes(data)


def encode(compiled: Compiled) -> Artifact:
    """The Artifact; equal programs and options give equal bytes."""
    program, target = compiled.program, compiled.target
    batch = {"batch": compiled.frames} if compiled.frames > 1 else {}
    numbers = {name: number for number, name in enumerate(program.values)}
    memory = {
        "target": target.record(),
        "opt": compiled.opt,
        "cores": compiled.cores,
        "ddr": [[numbers[name], address] for name, address in compiled.ddr.items()],
        "onchip_bytes": compiled.onchip_bytes,
        "ddr_bytes": compiled.ddr_bytes,
        **({"frames": compiled.frames} if compiled.frames > 1 else {}),
    }
    return Artifact(
        march=target.march,
        inputs=program.inputs,
        outputs=program.outputs,
        manifest={
            "name": program.name,
            "program": digest(program),
            "tree": program.tree,
            "bit_exact": True,
            "max_lsb": 0,
            "verified_frames": 0,
            "options": {"opt": compiled.opt, "cores": compiled.cores, **batch},
        },
        sections={
            "commands": stream.encode(compiled.commands),
            "layers": _json(layers_record(program, compiled.layers)),
            "weights": compiled.weights,
            "layout": _json([_layout_entry(p, numbers) for p in compiled.packed.values()]),
            "memory": _json(memory),
            "origins": _json(origins_record(program, compiled.layers)),
        },
    )


def decode(artifact: Artifact) -> Compiled:
    """Everything, from the artifact's sections. Raises DiagnosticError QS811 whatever they hold."""
    try:
        weights = artifact.sections["weights"]
        memory = json.loads(artifact.sections["memory"])
        target = Target.from_record(memory["target"])
        names = Names(artifact)
        packed = _layout(artifact.sections, names)
        constants = {name: _constant(weights, entry) for name, entry in packed.items()}
        program, chains = read_layers(artifact, names, constants)
        compiled = Compiled(
            program=program,
            target=target,
            opt=str(memory["opt"]),
            cores=int(memory["cores"]),
            packed=packed,
            weights=weights,
            layers=layers_of(program, target, chains),
            commands=stream.decode(artifact.sections["commands"]),
            ddr=_addresses(memory["ddr"], names),
            onchip_bytes=int(memory["onchip_bytes"]),
            ddr_bytes=int(memory["ddr_bytes"]),
            frames=int(memory.get("frames", 1)),
            fed={fed.port.name: fed for fed in artifact.runtime_inputs},
        )
        _check(compiled)
    except _BROKEN as problem:
        raise broken(artifact, problem) from problem
    return compiled


def broken(artifact: Artifact, problem: object) -> DiagnosticError:
    """QS811: the sections are not those of a compiled program."""
    text = f"no section {problem}" if isinstance(problem, KeyError) else str(problem)
    return QS811.error(
        f"not a program compiled for {artifact.march}: {text}",
        help="compile it again with `qatspec convert`",
    )


def _json(data: Any) -> bytes:
    return json.dumps(data, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def _layout_entry(packed: Packed, numbers: Mapping[str, int]) -> dict[str, Any]:
    """The layout of a constant as JSON, by its number; what is not turned says nothing of it."""
    entry = {"value": numbers[packed.name], **asdict(packed)}
    del entry["name"]
    if not packed.turned:
        del entry["turned"]
    return entry


def _layout(sections: Mapping[str, bytes], names: Names) -> dict[str, Packed]:
    packed = {}
    for entry in json.loads(sections["layout"]):
        name = names[entry.pop("value")]
        packed[name] = Packed(**{**entry, "name": name, "shape": tuple(entry["shape"])})
    return packed


def _constant(weights: bytes, packed: Packed) -> np.ndarray:
    """All of a constant, from its place in the weights section."""
    count = packed.shape[0]
    offset, size = packed.span(0, count)
    return unpack_constant(weights[offset : offset + size], packed, 0, count)


def _addresses(pairs: Any, names: Names) -> dict[str, int]:
    addresses = {names[number]: int(address) for number, address in pairs}
    if not all(address >= 0 for address in addresses.values()):
        raise ValueError("the memory plan has an address below 0")
    return addresses


def _check(compiled: Compiled) -> None:
    """Every number of the stream names something that is there, and every command reads what it
    says that it reads."""
    target = compiled.target
    if (
        not 1 <= compiled.cores <= target.hardware.cores
        or target.hardware.onchip_bytes < compiled.onchip_bytes
        or compiled.frames < 1
    ):
        raise ValueError("the memory plan does not fit its target")
    for number, command in enumerate(compiled.commands):
        inside = (
            command.core < compiled.cores
            and command.layer < len(compiled.layers)
            and command.value < len(compiled.program.values)
        )
        if not inside:
            raise ValueError(f"command {number} names a core, layer or value that is not there")
    check_dataflow(compiled)
