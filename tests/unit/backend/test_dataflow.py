"""A damaged command stream is refused before it runs; what passes computes the Program."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from qatspec.backend import assemble
from qatspec.backend.commands import BadStream, Command, Operand
from qatspec.backend.compiled import Compiled
from qatspec.backend.dataflow import check_dataflow
from qatspec.backend.encode import decode, encode
from qatspec.backend.machine import Machine, run_compiled
from qatspec.backend.packing import LINE
from qatspec.backend.region import Box
from qatspec.diag import DiagnosticError
from qatspec.kinds import KINDS
from qatspec.program.fused import requantized

Stream = tuple[Command, ...]


@pytest.fixture
def compiled(full, target) -> Compiled:
    """Every kind of op, with rings, kept values and streamed constants."""
    return decode(assemble(full, target(16 * 1024), verify=False))


def refused(compiled: Compiled, commands: Stream) -> bool:
    try:
        check_dataflow(replace(compiled, commands=commands))
    except BadStream:
        return True
    return False


def one_changed(commands: Stream, **changes) -> Iterator[Stream]:
    """The stream with one command changed, for every command. changes: field -> function."""
    for i, command in enumerate(commands):
        fields = {name: change(command) for name, change in changes.items()}
        yield (*commands[:i], replace(command, **fields), *commands[i + 1 :])


def test_no_command_can_be_missing(compiled):
    for i in range(len(compiled.commands)):
        assert refused(compiled, compiled.commands[:i] + compiled.commands[i + 1 :]), i


def test_no_address_can_be_another(compiled):
    shifted = one_changed(compiled.commands, address=lambda c: c.address + LINE)
    assert all(refused(compiled, stream) for stream in shifted)


def test_no_ring_can_have_fewer_rows_than_its_readers_expect(compiled):
    for i, c in enumerate(compiled.commands):
        if c.code != "weight" and c.buffer.rows > 1:
            buffer = replace(c.buffer, h1=c.buffer.h1 - 1)
            stream = list(compiled.commands)
            stream[i] = replace(c, buffer=buffer)
            assert refused(compiled, tuple(stream)), i


def without_a_row(commands: Stream, address: int, buffer: Box) -> Stream:
    """The stream with one row less in this buffer, wherever it is used."""
    smaller = replace(buffer, h1=buffer.h1 - 1)

    def changed(c: Command) -> Command:
        if c.code != "weight" and (c.address, c.buffer) == (address, buffer):
            c = replace(c, buffer=smaller)
        operands = (
            Operand(address, smaller) if (o.address, o.box) == (address, buffer) else o
            for o in c.operands
        )
        return replace(c, operands=tuple(operands))

    return tuple(changed(c) for c in commands)


def test_a_ring_too_small_or_commands_exchanged_are_refused_or_harmless(compiled, full, noise):
    """Neighbours that do not depend on each other may be exchanged, and a ring that has space to
    load ahead works with a row less."""
    commands, ints = compiled.commands, noise(full, 1)
    streams = {}
    for i in range(len(commands) - 1):
        streams[(*commands[:i], commands[i + 1], commands[i], *commands[i + 2 :])] = None
    for c in commands:
        if c.code != "weight" and c.buffer.rows > 1:
            streams[without_a_row(commands, c.address, c.buffer)] = None
    wanted = full.run(*ints)
    passed = [stream for stream in streams if not refused(compiled, stream)]
    assert 0 < len(passed) < len(streams) / 2
    for stream in passed[::8]:
        outputs = Machine(replace(compiled, commands=stream)).run(ints)
        for got, expected in zip(outputs, wanted, strict=True):
            assert np.array_equal(got, expected)


def test_a_damaged_file_says_which_command_reads_what_is_not_there(compiled, full, noise):
    artifact = encode(replace(compiled, commands=compiled.commands[1:]))
    with pytest.raises(DiagnosticError) as caught:
        run_compiled(artifact, noise(full))
    (problem,) = caught.value.diagnostics
    assert problem.code == "QS811"
    assert "command " in problem.message and "does not hold" in problem.message


@pytest.mark.parametrize("kind", ["conv", "requant", "mul", "lut", "resize_bilinear"])
def test_wrong_arithmetic_of_the_cores_is_refused(full, target, monkeypatch, kind):
    """The frame is compared with the interpreter, which shares no arithmetic with the cores."""
    step = KINDS[kind].step

    def faulty(exact, op):
        right = step(exact, op)
        return lambda *xs: right(*xs) ^ 1 if exact.dtype(op.output) == "int8" else right(*xs) * 2

    def faulty_kernel(exact, op, requant):
        right = requantized(exact, op, requant)
        if op.kind != kind or right is None:
            return right
        return lambda *xs: right(*xs) ^ 1

    monkeypatch.setitem(KINDS, kind, replace(KINDS[kind], step=faulty))
    monkeypatch.setattr("qatspec.backend.tilework.requantized", faulty_kernel)
    with pytest.raises(DiagnosticError) as caught:
        assemble(full, target(), opt="O1")
    assert caught.value.diagnostics[0].code == "QS812"
