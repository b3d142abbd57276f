"""What a compiler's fault in the command stream does to `assemble`: a refusal, never a file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from qatspec.backend import assemble, pipeline
from qatspec.backend.commands import Command
from qatspec.backend.encode import decode, encode
from qatspec.backend.machine import run_compiled
from qatspec.backend.packing import LINE
from qatspec.backend.verify import verified
from qatspec.diag import DiagnosticError
from qatspec.referee import interpret

Commands = list[Command]


def _operand_shifted(command: Command) -> Command:
    first, *others = command.operands
    return replace(command, operands=(replace(first, address=first.address + LINE), *others))


def _first(code: str) -> Callable[[Commands], int]:
    return lambda commands: next(i for i, c in enumerate(commands) if c.code == code)


def _changed(at: Callable[[Commands], int], change: Callable[[Command], Command]):
    def apply(commands: Commands) -> Commands:
        place = at(commands)
        return [*commands[:place], change(commands[place]), *commands[place + 1 :]]

    return apply


def _dropped(at: Callable[[Commands], int]):
    return lambda commands: [c for i, c in enumerate(commands) if i != at(commands)]


def _swapped(at: Callable[[Commands], int]):
    """A command and the one behind it."""

    def apply(commands: Commands) -> Commands:
        i = at(commands)
        return [*commands[:i], commands[i + 1], commands[i], *commands[i + 2 :]]

    return apply


def _execute_first(commands: Commands) -> Commands:
    place = _first("execute")(commands)
    return [commands[place], *commands[:place], *commands[place + 1 :]]


_SHIFTED = lambda c: replace(c, address=c.address + LINE)  # noqa: E731
FAULTS = {
    "a load to another address": _changed(_first("load"), _SHIFTED),
    "a store from another address": _changed(_first("store"), _SHIFTED),
    "constants at another address": _changed(_first("weight"), _SHIFTED),
    "constants read at another address": _changed(
        _first("execute"), lambda c: replace(c, constants=c.constants + LINE)
    ),
    "an operand read at another address": _changed(_first("execute"), _operand_shifted),
    "an address past the memory": _changed(_first("load"), lambda c: replace(c, address=1 << 30)),
    "no load": _dropped(_first("load")),
    "no constants": _dropped(_first("weight")),
    "no execute": _dropped(_first("execute")),
    "no store": _dropped(_first("store")),
    "execute before what it needs": _execute_first,
    "reversed": lambda commands: commands[::-1],
    "nothing": lambda commands: [],
    "another layer": _changed(_first("execute"), lambda c: replace(c, layer=c.layer + 1)),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("onchip", [1 << 20, 12 * 1024])
def test_a_seeded_fault_is_refused(full, target, monkeypatch, fault, onchip):
    made = pipeline.emit
    monkeypatch.setattr(pipeline, "emit", lambda *given: tuple(FAULTS[fault](list(made(*given)))))
    assemble(full, target(onchip), opt="O1", verify=False)
    with pytest.raises(DiagnosticError) as caught:
        assemble(full, target(onchip), opt="O1")
    (found,) = caught.value.diagnostics
    assert found.code == "QS812"
    assert found.message.startswith("the commands compiled for ")


def test_bytes_cut_from_the_stream_are_refused(small, target):
    artifact = assemble(small, target())
    for cut in (4, 32, 64):
        sections = {**artifact.sections, "commands": artifact.sections["commands"][:-cut]}
        with pytest.raises(DiagnosticError) as caught:
            verified(replace(artifact, sections=sections), small)
        assert caught.value.diagnostics[0].code == "QS812"


def test_what_passes_is_right_on_other_frames(small, noise, target):
    """Every command shifted, dropped or exchanged with its neighbour: refused, or harmless."""
    compiled = decode(assemble(small, target(12 * 1024), opt="O2"))
    commands, refused, tried = list(compiled.commands), 0, 0
    for place in range(len(commands) - 1):
        at = lambda _, place=place: place  # noqa: E731
        for change in (_changed(at, _SHIFTED), _dropped(at), _swapped(at)):
            artifact = encode(replace(compiled, commands=tuple(change(commands))))
            tried += 1
            try:
                verified(artifact, small)
            except DiagnosticError:
                refused += 1
                continue
            ints = noise(small)
            for got, wanted in zip(
                run_compiled(artifact, ints), interpret(small, *ints), strict=True
            ):
                assert np.array_equal(got, wanted)
    assert refused > tried / 3


def test_the_manifest_says_whether_the_commands_were_run(small, target):
    for verify in (False, True):
        artifact = assemble(small, target(), verify=verify)
        assert artifact.manifest["verified_frames"] == int(verify)
        assert artifact.to_bytes() == assemble(small, target(), verify=verify).to_bytes()
