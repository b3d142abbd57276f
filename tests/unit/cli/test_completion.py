"""Completion in shells: what the scripts of `qatspec completion` get, and bash itself."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from qatspec.cli.completion import COMPLETE, SHELLS
from qatspec.cli.main import run


def completions(monkeypatch, capsys, words: str, incomplete: int) -> list[str]:
    monkeypatch.setenv(COMPLETE, "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(incomplete))
    assert run([]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    "words, at, expected",
    [
        ("qatspec comp", 1, ["plain,compare", "plain,completion"]),
        ("qatspec plugins sh", 2, ["plain,show"]),
        ("qatspec run --step c", 3, ["plain,calibration", "plain,convert", "plain,compile"]),
        ("qatspec plan --nn", 2, ["plain,--nnodes"]),
        ("qatspec --vers", 1, ["plain,--version"]),
        ("qatspec validate sp", 2, ["file,sp"]),
        ("qatspec --version comp", 2, ["plain,compare", "plain,completion"]),
    ],
)
def test_commands_options_choices_and_paths(monkeypatch, capsys, words, at, expected):
    assert completions(monkeypatch, capsys, words, at) == expected


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_names_the_program_and_asks_for_completions(monkeypatch, capsys, shell):
    monkeypatch.delenv(COMPLETE, raising=False)
    assert run(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"{COMPLETE}={shell}_complete" in script and "qatspec" in script


#: shell -> what completes `qatspec val` in it, as at its prompt
IN_SHELLS = {
    "bash": """
        eval "$(qatspec completion bash)"
        COMP_WORDS=(qatspec val); COMP_CWORD=1
        _qatspec_completion qatspec val qatspec
        echo "${COMPREPLY[@]}"
    """,
    # `_describe` lists the names that stand in an array; at a prompt it needs the line editor
    "zsh": """
        autoload -Uz compinit && compinit -u -D
        eval "$(qatspec completion zsh)"
        [[ $_comps[qatspec] = _qatspec_completion ]] || exit 1
        _describe() { print -r -- ${(P)3} }
        words=(qatspec val) CURRENT=2
        _qatspec_completion
    """,
    "fish": """
        qatspec completion fish | source
        complete -C "qatspec val"
        complete -C "qatspec compa"
    """,
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(tmp_path, shell):
    """The script is loaded, and the shell calls it for `qatspec val`."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    program = tmp_path / "qatspec"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m qatspec "$@"\n')
    program.chmod(0o755)
    root = str(Path(__file__).parents[3])
    environment = {
        **os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": root,
        "HOME": str(tmp_path),
    }  # fmt: skip
    alone = ["-f"] if shell == "zsh" else []  # without the files that a user has
    done = subprocess.run(
        [shell, *alone, "-c", IN_SHELLS[shell]],
        capture_output=True, text=True, env=environment, timeout=60,
    )  # fmt: skip
    first, *others = done.stdout.splitlines()
    assert first.partition("\t")[0].split(":")[0].split() == ["validate"], done.stderr
    if shell == "fish":  # a description with commas
        described = "Compare float, fake-quant and integers layer by layer."
        assert others == [f"compare\t{described}"]
