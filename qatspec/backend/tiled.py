"""What the record of a tiled march names (`qatspec.types.tiled_march`)."""

from __future__ import annotations

from typing import Any

from qatspec.backend.legalise import verdict
from qatspec.backend.pipeline import assemble
from qatspec.backend.target import Target
from qatspec.program import Artifact, Op, Program
from qatspec.types import Capabilities, Params, Verdict


def supports(
    march: str, version: int, capabilities: Capabilities, op: Op, program: Program
) -> Verdict:
    """Return whether the march runs `op`; if not, why."""
    return verdict(op, program, Target.of(march, version, capabilities))


def compile_program(
    march: str, version: int, capabilities: Capabilities, program: Program, options: Params
) -> Artifact:
    """A compiled file for the march. options: those of `assemble`. Raises DiagnosticError QS801,
    QS802, QS812."""
    options_: dict[str, Any] = dict(options)
    return assemble(program, Target.of(march, version, capabilities), **options_)
