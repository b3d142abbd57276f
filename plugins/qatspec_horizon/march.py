"""bernoulli2 and bayes: the shared pipeline on their capabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from qatspec.api import Target, assemble, run_compiled, verdict
from qatspec_horizon.capabilities import BAYES, BERNOULLI2

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    import numpy as np

    from qatspec.api import Artifact, Op, Program, Verdict

_BERNOULLI2 = Target.from_capabilities(BERNOULLI2)
_BAYES = Target.from_capabilities(BAYES)


def supports_bernoulli2(op: Op, program: Program) -> Verdict:
    """Can bernoulli2 run `op`; if not, why."""
    return verdict(op, program, _BERNOULLI2)


def supports_bayes(op: Op, program: Program) -> Verdict:
    """Can bayes run `op`; if not, why."""
    return verdict(op, program, _BAYES)


def compile_bernoulli2(program: Program, options: Mapping[str, Any]) -> Artifact:
    """A bin for bernoulli2. Raises DiagnosticError QS801, QS802."""
    return assemble(program, _BERNOULLI2, **options)


def compile_bayes(program: Program, options: Mapping[str, Any]) -> Artifact:
    """A bin for bayes. Raises DiagnosticError QS801, QS802."""
    return assemble(program, _BAYES, **options)


def run(artifact: Artifact, ints: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Integers in, integers out, from the bin's bytes alone. Raises DiagnosticError QS811."""
    outputs: list[np.ndarray] = run_compiled(artifact, ints)
    return outputs
