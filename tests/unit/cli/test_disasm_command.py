"""`qatspec disasm`: every command of a compiled file in words, and what differs between two."""

from __future__ import annotations

import pytest

from qatspec.api import compile as compile_program
from qatspec.backend.encode import decode
from qatspec.cli import main
from tests.unit.backend.conftest import residual


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Two plans of one program."""
    monkeypatch.chdir(tmp_path)
    artifacts = {}
    for opt in ("O1", "O2"):
        artifacts[opt] = compile_program(residual(march="bayes"), "bayes", opt=opt, verify=False)
        artifacts[opt].save(f"{opt}.bin")
    return artifacts


def test_every_command_is_a_line(files, capsys):
    assert main.run(["disasm", "O2.bin"]) == 0
    lines = capsys.readouterr().out.splitlines()
    commands = decode(files["O2"]).commands
    shown = [line.split()[0] for line in lines if line.startswith(" ")]
    assert shown == [command.code for command in commands]
    load = next(c for c in commands if c.code == "load")
    (first, *_) = [line for line in lines if line.split()[0] == "load"]
    assert f"image[0..3, {load.box.h0}..{load.box.h1}] -> {load.address:#x}" in first
    assert any(line.endswith("conv, requant  # net.py:3") for line in lines)


def test_two_files_are_compared_by_figures_and_commands(files, capsys):
    assert main.run(["disasm", "O2.bin", "O2.bin"]) == 0
    capsys.readouterr()
    assert main.run(["disasm", "O1.bin", "O2.bin"]) == 1
    out = capsys.readouterr().out
    assert "latency (us)" in out and "DDR bytes per frame" in out
    lines = out.splitlines()
    stores = [line for line in lines if line.startswith("-  store")]
    assert len(stores) > sum(line.startswith("+  store") for line in lines)


def test_diff_compares_compiled_files_as_well(files, capsys):
    assert main.run(["disasm", "O1.bin", "O2.bin"]) == 1
    wanted = capsys.readouterr().out
    assert main.run(["diff", "O1.bin", "O2.bin"]) == 1
    assert capsys.readouterr().out == wanted
    assert main.run(["diff", "O1.bin", "spec.yaml"]) == 2
    assert "two specs, or two compiled files" in " ".join(capsys.readouterr().err.split())
