"""Whatever a file of integers holds, every command that reads it ends in a diagnostic."""

from __future__ import annotations

import numpy as np
import pytest

from qatspec.cli.main import run
from qatspec.program.container import pack, unpack

FILES = ("convert/toy.program", "convert/toy-converted.onnx", "compile/toy.bin")
DAMAGE = {
    "empty": lambda data: b"",
    "cut": lambda data: data[: len(data) // 2],
    "text": lambda data: b"<html>404 not found</html>",
    "a byte": lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:],
    "zeros": lambda data: bytes(len(data)),
}


@pytest.fixture
def damaged(copy, monkeypatch, capsys):
    """damaged(file, harm): what a command says when it meets the file."""
    monkeypatch.chdir(copy.folder)
    images = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
    np.save(copy.folder / "images.npy", images)

    def spoil(file, harm):
        path = copy.workdir / file
        path.write_bytes(harm(path.read_bytes()))

        def call(*arguments):
            capsys.readouterr()
            code = run([str(a) for a in arguments])
            return code, capsys.readouterr().err

        return path, call

    return spoil


@pytest.mark.parametrize("harm", DAMAGE)
@pytest.mark.parametrize("file", FILES)
def test_infer(damaged, file, harm):
    path, call = damaged(file, DAMAGE[harm])
    code, said = call("infer", path, "--input", "images.npy", "--output", "out")
    assert code == 1 and "error[QS" in said and path.name in said, said
    assert "internal" not in said


@pytest.mark.parametrize(
    ("file", "stage"), [("convert/toy.program", "integer"), ("compile/toy.bin", "bin")]
)
def test_eval(copy, file, stage):
    path = copy.workdir / file
    path.write_bytes(path.read_bytes()[:-100])
    done = copy.call(
        "eval", "toy.yaml", "--stage", stage, "--workdir", "work", "--allow-code", "--device", "cpu"
    )
    assert done.returncode == 1 and path.name in done.stderr and "error[QS" in done.stderr


def test_sections_of_another_kind(damaged):
    """A bin whose checksums are right and whose sections are not its march's."""

    def foreign(data):
        header, sections = unpack(b"QSBIN\0", 1, data)
        return pack(b"QSBIN\0", 1, header, dict.fromkeys(sections, b"[]"))

    path, call = damaged("compile/toy.bin", foreign)
    code, said = call("infer", path, "--input", "images.npy", "--output", "out")
    assert code == 1 and "QS811" in said, said
