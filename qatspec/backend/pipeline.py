"""From a Program to a bin, read top to bottom: what every tiled accelerator's march shares."""

from __future__ import annotations

from qatspec.backend.compiled import Compiled
from qatspec.backend.emit import emit
from qatspec.backend.encode import encode, pack_weights
from qatspec.backend.layers import group
from qatspec.backend.legalise import legalise
from qatspec.backend.network import Network
from qatspec.backend.packing import LINE, Packed, packed_layout
from qatspec.backend.placement import Placement
from qatspec.backend.plan import cheapest
from qatspec.backend.target import Target, align
from qatspec.kinds import Trait, has
from qatspec.program import Artifact, Program
from qatspec.types import TILED_OPTIONS


def assemble(
    program: Program,
    target: Target,
    *,
    opt: str = TILED_OPTIONS["opt"]["default"],
    cores: int = TILED_OPTIONS["cores"]["default"],
    batch: int = TILED_OPTIONS["batch"]["default"],
    verify: bool = TILED_OPTIONS["verify"]["default"],
    chip_only: bool = TILED_OPTIONS["chip_only"]["default"],
) -> Artifact:
    """Compile `program` for `target`: legalise, fuse, place, emit, schedule, encode.

    opt     effort: O0, O1, O2, O3, ddr, fast or balance.
    cores   how many cores one frame is split over.
    batch   number of frames of a run, which every command works on.
    verify  run one seeded frame through the encoded commands and compare every layer with the
            interpreter; the manifest's `verified_frames` says whether it was done.
    chip_only
            refuse what the march leaves to the CPU.

    Returns the Artifact. Raises DiagnosticError: QS801 for every op that the march cannot run,
    QS802 where a layer does not fit on chip, QS812 where the commands give other integers than the
    Program.
    """
    legalise(program, target, chip_only=chip_only)
    layers = group(program, target)
    packed = lay_out(program, target)
    weights = pack_weights(program, packed)

    net = Network.of(program, target, packed, layers, batch)

    def compiled(placed: Placement, used: int) -> Compiled:
        return Compiled(
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
            frames=batch,
        )

    artifact = encode(cheapest(net, opt, cores, compiled))
    if not verify:
        return artifact
    from qatspec.backend.verify import verified  # imports torch

    return verified(artifact, program)


def lay_out(program: Program, target: Target) -> dict[str, Packed]:
    """A place in the weights section for every constant, in the order of first use."""
    packed: dict[str, Packed] = {}
    end = 0
    for op in program.ops:
        for name in op.inputs:
            if name in program.consts and name not in packed:
                inputs_first = has(op, Trait.INPUTS_FIRST) and name == op.inputs[1]
                turned = op.attrs["groups"] if inputs_first else 0
                packed[name] = packed_layout(name, program.consts[name], end, target, turned)
                end = align(end + packed[name].size, LINE)
    return packed
