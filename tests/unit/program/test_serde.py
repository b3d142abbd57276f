"""Files of programs and artifacts: round trips, and hostile bytes."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from qatspec.diag import DiagnosticError
from qatspec.program import Artifact, Program, digest, dump, load_program, save_program
from qatspec.program.container import Damaged, pack, unpack
from qatspec.program.serde import MAGIC, VERSION, from_bytes, to_bytes
from qatspec.types import Arithmetic


def test_round_trip(small, tmp_path):
    save_program(small, tmp_path / "deep" / "a.program")
    again = load_program(tmp_path / "deep" / "a.program")
    assert digest(again) == digest(small)
    assert dump(again) == dump(small)
    assert again.tree == small.tree
    assert again.ops[0].origin.source == "net.py:7"
    assert [p.name for p in (tmp_path / "deep").iterdir()] == ["a.program"]


@pytest.mark.parametrize("loader", [load_program, Artifact.load])
def test_missing_empty_and_foreign_files(loader, tmp_path):
    path = tmp_path / "x"
    with pytest.raises(DiagnosticError):
        loader(path)
    for content in (b"", b"PK\3\4" + b"\0" * 200, MAGIC, b"QSBIN\0", b"\0" * 1000):
        path.write_bytes(content)
        with pytest.raises(DiagnosticError) as caught:
            loader(path)
        (found,) = caught.value.diagnostics
        assert found.span is not None
        assert found.span.file == str(path)


def test_every_damaged_byte_is_noticed(small):
    data = to_bytes(small)
    rng = np.random.default_rng(0)
    for at in [*range(20), *rng.integers(0, len(data), 200).tolist()]:
        broken = bytearray(data)
        broken[at] ^= 1 << int(rng.integers(0, 8))
        with pytest.raises(Damaged):
            from_bytes(bytes(broken))
    for size in (0, 5, 15, 16, 47, 48, 100, len(data) - 1):
        with pytest.raises(Damaged):
            from_bytes(data[:size])


def forge(header: bytes, body: bytes = b"") -> bytes:
    """A file with a right closing sha256 and whatever else."""
    head = struct.pack("<6sHQ", MAGIC, VERSION, len(header)) + header + body
    return head + hashlib.sha256(head).digest()


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"sections": [["a", -1, ""]]}',
        b'{"sections": [["a", 99999999999, ""]]}',
        b'{"sections": [1]}',
        b'{"sections": {}}',
        b'{"sections": [], "values": 3}',
        b"9" * 10_000,
    ],
)
def test_forged_headers(header):
    with pytest.raises(Damaged):
        from_bytes(forge(header))


def test_forged_fields_never_crash(small):
    """Every leaf of the header replaced by things that JSON can hold."""
    header, sections = unpack(MAGIC, VERSION, to_bytes(small))
    del header["sections"]
    strange = [None, -1, 2**70, 1e308, "x", "", [], {}, [[[]]], True, [2**40] * 3]
    places: list[list] = []

    def walk(node, path):
        if isinstance(node, dict):
            for key in node:
                walk(node[key], [*path, key])
        elif isinstance(node, list):
            for i, item in enumerate(node):
                walk(item, [*path, i])
        places.append(path)

    walk(header, [])
    rng = np.random.default_rng(3)
    tried = 0
    for path in places:
        if not path:
            continue
        for value in rng.choice(len(strange), 3, replace=False):
            copy = json.loads(json.dumps(header))
            node = copy
            for step in path[:-1]:
                node = node[step]
            node[path[-1]] = strange[value]
            try:
                found = from_bytes(pack(MAGIC, VERSION, copy, sections))
            except (Damaged, DiagnosticError):
                tried += 1
                continue
            dump(found)  # a change that leaves a good program: a name, a source line
    assert tried > 100


def test_artifact_round_trip(small, tmp_path):
    artifact = Artifact(
        march="bayes",
        inputs=small.inputs,
        outputs=small.outputs,
        manifest={"name": "small", "program": digest(small), "bit_exact": True, "tree": small.tree},
        sections={"code": b"\1\2\3", "empty": b""},
    )
    artifact.save(tmp_path / "a.bin")
    again = Artifact.load(tmp_path / "a.bin")
    assert again.to_bytes() == artifact.to_bytes()
    assert again.march == "bayes"
    assert again.tree == small.tree
    assert again.sections == artifact.sections
    assert again.outputs[0].axis == 1
    x = np.random.default_rng(0).standard_normal((1, 2, 4, 4))
    assert np.array_equal(again.quantize(x)[0], small.quantize(x)[0])
    with pytest.raises(DiagnosticError) as caught:
        again.run(x)
    assert caught.value.diagnostics[0].code == "QS712"


@pytest.mark.parametrize("fused_add", [True, False])
def test_the_arithmetic_is_kept_whole(small, fused_add):
    arithmetic = Arithmetic(multiplier_bits=12, rounding="floor", fused_add=fused_add)
    program = replace(small, arithmetic=arithmetic)
    assert Program.from_bytes(program.to_bytes()).arithmetic == arithmetic
