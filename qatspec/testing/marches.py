"""Checks of marches, on the Programs of one-layer nets."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS804
from qatspec.ir import RANGE
from qatspec.lower import lower
from qatspec.program import Artifact, Program, dump
from qatspec.referee import interpret
from qatspec.schema import with_defaults
from qatspec.testing.nets import all_examples, alone, images, prepared_for_eval
from qatspec.testing.subject import Skipped, Subject, in_words
from qatspec.types import RUNTIME_INPUT, Arithmetic, March, Verdict

_MISSING = QS804  # the march's own runtime is not installed


def supports_what_it_compiles(subject: Subject, march: March) -> None:
    """It compiles exactly the Programs all of whose ops it supports; a refusal has a reason, and
    compile refuses by a diagnostic."""
    for op, program in _programs(march):
        verdicts = [march.supports(one, program) for one in program.ops]
        assert all(isinstance(v, Verdict) for v in verdicts), f"{op}: supports gave no Verdict"
        refused = [v for v in verdicts if not v.ok]
        assert all(v.reason for v in refused), f"{op}: it refuses without a reason"
        compiled = _compile(march, program) is not None
        words = "compiles" if compiled else "does not compile"
        assert compiled == (not refused), f"{op}: {words}, though supports says otherwise"


def same_program_same_bytes(subject: Subject, march: March) -> None:
    """Compiling twice gives the same bytes and does not change the Program."""
    for op, program in _programs(march):
        before = dump(program)
        first, second = _compile(march, program), _compile(march, program)
        assert dump(program) == before, f"{op}: compile changes the Program"
        if first is not None and second is not None:
            assert first.to_bytes() == second.to_bytes(), f"{op}: other bytes the second time"


def run_equals_interpret(subject: Subject, march: March) -> None:
    """A march that says it is bit exact gives the interpreter's integers over the whole range."""
    if not march.bit_exact:
        raise Skipped("it does not promise bit exactness")
    for op, program in _programs(march):
        artifact = _compile(march, program)
        if artifact is None:
            continue
        artifact = Artifact.from_bytes(artifact.to_bytes())
        ints = _noise(program)
        for got, wanted in zip(march.run(artifact, ints), interpret(program, *ints), strict=True):
            assert np.array_equal(got, wanted), f"{op}: other integers than the Program's"


def _programs(march: March) -> Iterator[tuple[str, Program]]:
    """Each op's example, lowered for the march."""
    float_ops = tuple(sorted(march.float_ops.items()))
    for op, data in _lowered(march.name, march.arithmetic, float_ops):
        yield op, Program.from_bytes(data)


@functools.lru_cache(maxsize=1)
def _lowered(
    march: str, arithmetic: Arithmetic, float_ops: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, bytes], ...]:
    """Programs as bytes, so that a check that changes one changes no other's. arithmetic,
    float_ops: of the march registered under this name now."""
    made = []
    for example in all_examples():
        x = images(example.shape)
        prepared = prepared_for_eval(alone(example), x, march=march)
        try:
            made.append((example.op, lower(prepared, (x,), name=example.op).to_bytes()))
        except DiagnosticError:  # no integer form: nothing that a march could refuse
            continue
    return tuple(made)


def _compile(march: March, program: Program) -> Artifact | None:
    """None where the march refuses."""
    filled = with_defaults(march.options, {})
    options = {key: value for key, value in filled.items() if key not in RUNTIME_INPUT}
    try:
        artifact = march.compile(program, options)
    except DiagnosticError as error:
        diagnostic = error.diagnostics[0]
        if diagnostic.code == _MISSING:
            raise Skipped(diagnostic.message) from error
        return None
    except Exception as error:
        raise AssertionError(f"{program.name}: compile raises {in_words(error)}") from error
    assert isinstance(artifact, Artifact), "compile returns no Artifact"
    return artifact


def _noise(program: Program) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    ports = program.inputs
    bounds = [(p, *RANGE[p.dtype]) for p in ports]
    return [
        rng.integers(low, high, (2, *p.shape), endpoint=True).astype(p.dtype)
        for p, low, high in bounds
    ]
