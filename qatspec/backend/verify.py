"""Verification of a compiled file: one frame through its commands, held against the interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from qatspec.backend.encode import decode
from qatspec.backend.machine import Deviation, Machine
from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS812
from qatspec.ir import RANGE, STORAGE
from qatspec.program import Artifact, Program
from qatspec.referee import interpret_all


def verified(artifact: Artifact, program: Program) -> Artifact:
    """Run one seeded frame through the commands of `artifact`, layer by layer and tile by tile.

    The frame holds noise over the whole range of every input port. What each `execute` command
    computes must equal that part of the layer's value in the interpreter, and so must the outputs
    that lie in memory at the end. A layer that is wrong in a place where a later layer clips the
    difference away is found all the same.

    artifact: fed the Program's own integers. Returns it with `verified_frames` 1 in its manifest.

    Raises DiagnosticError QS812 on the first difference, or where the commands cannot run.
    """
    rng = np.random.default_rng(0)
    frame = [
        rng.integers(*RANGE[port.dtype], (1, *port.shape), STORAGE[port.dtype], endpoint=True)
        for port in program.inputs
    ]
    values = interpret_all(program, *frame)
    expected = {name: array for name, array in values.items() if name not in program.consts}
    try:
        outputs = Machine(decode(artifact)).run(frame, expected)
    except Deviation as deviation:
        raise _refused(artifact, str(deviation)) from deviation
    except DiagnosticError as problem:
        raise _refused(artifact, problem.diagnostics[0].message) from problem
    for port, array in zip(program.outputs, outputs, strict=True):
        if not np.array_equal(array, expected[port.name]):
            raise _refused(artifact, f"output `{port.name}` holds other integers at the end")
    return replace(artifact, manifest={**artifact.manifest, "verified_frames": 1})


def _refused(artifact: Artifact, why: str) -> DiagnosticError:
    return QS812.error(
        f"the commands compiled for {artifact.march} do not compute the Program: {why}",
        help="this is a fault of qatspec, and nothing was written: report it with the "
        "`.program` file; another `opt` (`O0`) plans the commands in another way",
    )
