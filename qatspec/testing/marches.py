"""Checks of marches, on the Programs of one-layer nets."""

from __future__ import annotations

from collections.abc import Iterator
from copy import copy
from dataclasses import replace
from itertools import tee
from typing import cast

import numpy as np

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS804
from qatspec.ir import RANGE
from qatspec.lower import lower
from qatspec.program import Artifact, Program, dump
from qatspec.referee import interpret
from qatspec.schema import with_defaults
from qatspec.testing.nets import images, one_layer_nets, prepared_for_eval
from qatspec.testing.subject import Skipped, Subject, in_words
from qatspec.types import RUNTIME_INPUT, March, Verdict

_MISSING = QS804  # the march's own runtime is not installed


def supports_what_it_compiles(subject: Subject, march: March) -> None:
    """It compiles exactly the Programs all of whose ops it supports; a refusal has a reason, and
    compile refuses by a diagnostic."""
    for op, program in _programs(subject, march):
        verdicts = [march.supports(one, program) for one in program.ops]
        assert all(isinstance(v, Verdict) for v in verdicts), f"{op}: supports gave no Verdict"
        refused = [v for v in verdicts if not v.ok]
        assert all(v.reason for v in refused), f"{op}: it refuses without a reason"
        compiled = _compiled(subject, march, program) is not None
        words = "compiles" if compiled else "does not compile"
        assert compiled == (not refused), f"{op}: {words}, though supports says otherwise"


def same_program_same_bytes(subject: Subject, march: March) -> None:
    """Compiling twice gives the same bytes and does not change the Program."""
    for op, program in _programs(subject, march):
        before = dump(program)
        again = _compile(march, program)
        assert dump(program) == before, f"{op}: compile changes the Program"
        assert again == _compiled(subject, march, program), f"{op}: other bytes the second time"


def run_equals_interpret(subject: Subject, march: March) -> None:
    """A march that says it is bit exact gives the interpreter's integers over the whole range."""
    if not march.bit_exact:
        raise Skipped("it does not promise bit exactness")
    for op, program in _programs(subject, march):
        compiled = _compiled(subject, march, program)
        if compiled is None:
            continue
        ints = _noise(program)
        got = march.run(Artifact.from_bytes(compiled), ints)
        for one, wanted in zip(got, interpret(program, *ints), strict=True):
            assert np.array_equal(one, wanted), f"{op}: other integers than the Program's"


def _programs(subject: Subject, march: March) -> Iterator[tuple[str, Program]]:
    """Each op's example, lowered for the march; loaded anew, so that a check that changes one
    changes no other's."""
    for op, data in _alike(subject, march):
        yield op, replace(Program.from_bytes(data), march=march.name)


def _alike(subject: Subject, march: March) -> Iterator[tuple[str, bytes]]:
    """What `_lowered` gives for a march with the same arithmetic and capabilities: the figures of
    its hardware change no Program. Each Program is made once, when a check first asks for it."""
    abilities = replace(march.capabilities, hardware=None)
    facts = march.arithmetic, abilities, march.float_ops, march.qdq
    lowered = subject.made.setdefault(("programs",), [])
    if facts not in [known for known, _ in lowered]:
        lowered.append((facts, tee(_lowered(march), 1)[0]))
    (programs,) = (programs for known, programs in lowered if known == facts)
    return cast("Iterator[tuple[str, bytes]]", copy(programs))  # from the first one on


def _lowered(march: March) -> Iterator[tuple[str, bytes]]:
    for op, model, shape in one_layer_nets():
        x = images(shape)
        prepared = prepared_for_eval(model, x, march=march.name)
        try:
            data = lower(prepared, (x,), name=op).to_bytes()
        except DiagnosticError:  # no integer form: nothing that a march could refuse
            continue
        yield op, data


def _compiled(subject: Subject, march: March, program: Program) -> bytes | None:
    """What `_compile` gave for this Program the first time."""
    key = ("compiled", march.name, program.to_bytes())
    if key not in subject.made:
        subject.made[key] = _compile(march, program)
    compiled: bytes | None = subject.made[key]
    return compiled


def _compile(march: March, program: Program) -> bytes | None:
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
    return artifact.to_bytes()


def _noise(program: Program) -> list[np.ndarray]:
    rng = np.random.default_rng(3)
    ports = program.inputs
    bounds = [(p, *RANGE[p.dtype]) for p in ports]
    return [
        rng.integers(low, high, (2, *p.shape), endpoint=True).astype(p.dtype)
        for p, low, high in bounds
    ]
