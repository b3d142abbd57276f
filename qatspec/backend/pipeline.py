"""From a Program to a bin, read top to bottom: what every tiled accelerator's march shares."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np

from qatspec.backend.emit import emit
from qatspec.backend.encode import Compiled, decode_program, encode, pack_weights
from qatspec.backend.layers import group
from qatspec.backend.legalise import legalise
from qatspec.backend.network import Network
from qatspec.backend.packing import LINE, Packed, packed_layout
from qatspec.backend.place import Placement
from qatspec.backend.plan import cheapest
from qatspec.backend.target import Target, align
from qatspec.backend.verify import verified
from qatspec.program import Artifact, Program
from qatspec.types import TILED_OPTIONS


def assemble(
    program: Program,
    target: Target,
    *,
    opt: str = TILED_OPTIONS["opt"]["default"],
    cores: int = TILED_OPTIONS["cores"]["default"],
    verify: bool = TILED_OPTIONS["verify"]["default"],
) -> Artifact:
    """Compile `program` for `target`: legalise, fuse, place, emit, schedule, encode.

    opt     effort: O0, O1, O2, O3, ddr, fast or balance.
    cores   how many cores one frame is split over.
    verify  run one seeded frame through the encoded commands and compare every layer with the
            interpreter; the manifest's `verified_frames` says whether it was done.

    Returns the Artifact. Raises DiagnosticError: QS801 for every op that the march cannot run,
    QS802 where a layer does not fit on chip, QS812 where the commands give other integers than the
    Program.
    """
    legalise(program, target)
    layers = group(program)
    packed = _lay_out(program, target)
    weights = pack_weights(program, packed)

    net = Network.of(program, target, packed, layers)

    def compiled(placed: Placement) -> list[Compiled]:
        return [
            Compiled(
                program=program,
                target=target,
                opt=opt,
                cores=cores,
                packed=packed,
                weights=weights,
                layers=layers,
                commands=emit(net, placed, used),
                ddr=placed.ddr,
                onchip_bytes=placed.onchip_bytes,
                ddr_bytes=placed.ddr_bytes,
            )
            for used in range(cores, 0, -1)  # a frame on several cores may be the slower one
        ]

    artifact = encode(cheapest(net, opt, compiled))
    return verified(artifact, program) if verify else artifact


def run_compiled(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a bin of `assemble` from its bytes alone: the program it holds, weights unpacked, on the
    fast executor. `simulate` computes the same integers tile by tile.

    artifact  the bin.
    ints      an array of integers for each input port, in order: (N, *shape of the port).

    Returns an array (N, *shape) for each output port. Raises DiagnosticError: QS811 for a damaged
    bin, QS712 on arrays that do not fit.
    """
    program = _PROGRAMS.get(artifact)
    if program is None:
        program = _PROGRAMS[artifact] = decode_program(artifact)
    return program.run(*ints)


_PROGRAMS: weakref.WeakKeyDictionary[Artifact, Program] = weakref.WeakKeyDictionary()


def _lay_out(program: Program, target: Target) -> dict[str, Packed]:
    """A place in the weights section for every constant, in the order of first use."""
    packed: dict[str, Packed] = {}
    end = 0
    for op in program.ops:
        for name in op.inputs:
            if name in program.consts and name not in packed:
                packed[name] = packed_layout(name, program.consts[name], end, target)
                end = align(end + packed[name].size, LINE)
    return packed
