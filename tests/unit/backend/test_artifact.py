"""Bins: the same bytes for the same program, and a diagnostic for any other bytes."""

import json
from contextlib import suppress

import numpy as np
import pytest

from qatspec.backend import assemble, perf
from qatspec.backend.disasm import listing
from qatspec.backend.encode import decode
from qatspec.backend.machine import run_compiled
from qatspec.diag import DiagnosticError
from qatspec.program import Artifact, Program, digest, executor
from qatspec.referee import interpret


def changed(artifact, **sections):
    kept = {name: data for name, data in artifact.sections.items() if name not in sections}
    return Artifact(
        march=artifact.march,
        inputs=artifact.inputs,
        outputs=artifact.outputs,
        manifest=artifact.manifest,
        sections={**kept, **{n: d for n, d in sections.items() if d is not None}},
    )


def test_equal_programs_give_equal_bytes(full, target):
    for opt in ("O0", "O3"):
        first, second = (assemble(full, target(), opt=opt).to_bytes() for _ in range(2))
        assert first == second


def test_the_manifest_names_the_program(full, target):
    manifest = assemble(full, target(), opt="O1").manifest
    assert manifest["program"] == digest(full)
    assert (manifest["bit_exact"], manifest["max_lsb"]) == (True, 0)
    assert manifest["options"] == {"opt": "O1", "cores": 1}


@pytest.mark.parametrize("onchip", [1 << 20, 12 * 1024])
def test_a_bin_holds_no_program_and_runs_without_names(full, noise, target, monkeypatch, onchip):
    """Values and layers have numbers; the executor and the reader of Programs are not used."""
    ints = noise(full)
    wanted = interpret(full, *ints)
    artifact = assemble(full, target(onchip))
    bare = changed(artifact, origins=None)
    names = {name.encode() for name in full.values} - {p.name.encode() for p in full.outputs}
    assert not any(b'"%b"' % n in data for data in bare.sections.values() for n in names)

    def refused(*_given):
        raise AssertionError("a bin runs by its commands")

    for reader in ("run", "from_bytes"):
        monkeypatch.setattr(Program, reader, refused)
    monkeypatch.setattr(executor, "Executor", refused)
    for got, expected in zip(run_compiled(bare, ints), wanted, strict=True):
        assert np.array_equal(got, expected)
    times = [perf(bin_)["summary"]["latency (us)"] for bin_ in (artifact, bare)]
    assert times[0] == times[1]
    named, numbered = ("\n".join(listing(decode(bin_))) for bin_ in (artifact, bare))
    assert "conv_3" in named and "net.py:3" in named
    assert "conv_3" not in numbered and "net.py" not in numbered and "value 3" in numbered


def test_a_port_of_another_name_is_refused(small, noise, target):
    artifact = assemble(small, target())
    origins = json.loads(artifact.sections["origins"])
    origins["values"][0][0] = "another"
    with pytest.raises(DiagnosticError) as caught:
        run_compiled(changed(artifact, origins=json.dumps(origins).encode()), noise(small))
    assert "is not the port `image`" in caught.value.diagnostics[0].message


@pytest.mark.parametrize("section", ["layers", "weights", "layout", "commands", "memory"])
def test_a_missing_section_is_a_diagnostic(full, noise, target, section):
    artifact = changed(assemble(full, target()), **{section: None})
    with pytest.raises(DiagnosticError) as caught:
        run_compiled(artifact, noise(full))
    assert caught.value.diagnostics[0].code == "QS811"


@pytest.mark.parametrize(
    "section", ["layers", "origins", "weights", "layout", "commands", "memory"]
)
def test_any_section_bytes_are_a_program_or_a_diagnostic(small, noise, target, section):
    """Sections whose sha256 was made to fit: nothing but DiagnosticError may come out."""
    good = assemble(small, target())
    ints = noise(small, 1)
    rng = np.random.default_rng(1)
    original = good.sections[section]
    for trial in range(40):
        data = bytearray(original)
        for _ in range(1 + trial % 3):
            data[int(rng.integers(len(data)))] = int(rng.integers(256))
        artifact = changed(good, **{section: bytes(data[: len(data) - (trial % 2) * trial])})
        with suppress(DiagnosticError):
            run_compiled(artifact, ints)
        with suppress(DiagnosticError):
            json.dumps(perf(artifact))
