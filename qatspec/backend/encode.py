"""A compiled program as the sections of an Artifact, and back from the bytes alone.

program   JSON: the integer program without its constants (origins included)
weights   the constants, packed for the march
layout    JSON: where each constant lies in `weights`
commands  the command stream
memory    JSON: target figures, options, addresses in DDR
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
from qatspec.backend.layers import group
from qatspec.backend.packing import Packed, pack_constant, unpack_constant
from qatspec.backend.target import Target
from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS811
from qatspec.ir import STORAGE
from qatspec.program import Artifact, Program, digest, serde
from qatspec.program.container import pack, unpack

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
    structure, _ = unpack(serde.MAGIC, serde.VERSION, serde.to_bytes(program))
    del structure["sections"]
    memory = {
        "target": target.record(),
        "opt": compiled.opt,
        "cores": compiled.cores,
        "ddr": list(compiled.ddr.items()),
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
            "program": _json(structure),
            "weights": compiled.weights,
            "layout": _json([_layout_entry(p) for p in compiled.packed.values()]),
            "commands": stream.encode(compiled.commands),
            "memory": _json(memory),
        },
    )


def decode(artifact: Artifact) -> Compiled:
    """Everything, from the artifact's sections. Raises DiagnosticError QS811 whatever they hold."""
    try:
        packed = _layout(artifact.sections)
        program = _program(artifact.sections, packed)
        memory = json.loads(artifact.sections["memory"])
        target = Target.from_record(memory["target"])
        compiled = Compiled(
            program=program,
            target=target,
            opt=str(memory["opt"]),
            cores=int(memory["cores"]),
            packed=packed,
            weights=artifact.sections["weights"],
            layers=group(program, target),
            commands=stream.decode(artifact.sections["commands"]),
            ddr=_addresses(memory["ddr"], program),
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


def _layout_entry(packed: Packed) -> dict[str, Any]:
    """The layout of a constant as JSON; what is not turned says nothing of it."""
    entry = asdict(packed)
    if not packed.turned:
        del entry["turned"]
    return entry


def _layout(sections: Mapping[str, bytes]) -> dict[str, Packed]:
    entries = [Packed(**entry) for entry in json.loads(sections["layout"])]
    return {e.name: Packed(**{**asdict(e), "shape": tuple(e.shape)}) for e in entries}


def _program(sections: Mapping[str, bytes], packed: Mapping[str, Packed]) -> Program:
    """The structure with its constants unpacked, checked by the reader of program files."""
    structure = json.loads(sections["program"])
    dtypes = {value[0]: value[1] for value in structure["values"]}
    weights = sections["weights"]
    parts = []
    for name in structure["consts"]:
        constant = packed[name]
        count = constant.shape[0]
        offset, size = constant.span(0, count)
        array = unpack_constant(weights[offset : offset + size], constant, 0, count)
        stored = np.dtype(STORAGE[dtypes[name]]).newbyteorder("<")
        parts.append(np.ascontiguousarray(array, stored).tobytes())
    structured = pack(serde.MAGIC, serde.VERSION, structure, {"consts": b"".join(parts)})
    return serde.from_bytes(structured)


def _addresses(pairs: Any, program: Program) -> dict[str, int]:
    addresses = {name: int(address) for name, address in pairs}
    if not all(name in program.values and address >= 0 for name, address in addresses.items()):
        raise ValueError("the memory plan names a value that the program lacks")
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
