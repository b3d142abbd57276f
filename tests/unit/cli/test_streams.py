"""stdout holds a command's own output and nothing else, and what is printed is clean."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qatspec.cli import main
from qatspec.render import FORMATS

SPEC = """\
qatspec: 1
name: noisy
march: bayes
plugins: [./noisy.py]
model: {type: fcos, params: {num_classes: 10}, input: {size: [128, 128]}}
data:
  train: {type: digits_detection, params: {split: train, images: 8, size: 128}, batch_size: 8}
  val: {type: digits_detection, params: {split: val, images: 4, size: 128}, batch_size: 4}
stages:
  float: {trainer: {epochs: 1, optimizer: {type: sgd, lr: 0.1}}}
"""
NOISY = """\
import os, subprocess, sys
from qatspec.api import hookimpl
print("from print")
sys.__stdout__.write("from the first stdout\\n")
sys.__stdout__.flush()
os.write(1, b"from a library in C\\n")
subprocess.run(["echo", "from a child process"], check=True)
sys.stdout.buffer.write(b"from the buffer\\n")

@hookimpl
def qatspec_check(spec):
    print("from a hook")
    return ()
"""
NOISES = ("print", "the first stdout", "a library in C", "a child process", "the buffer", "a hook")


@pytest.fixture
def shell(tmp_path):
    (tmp_path / "spec.yaml").write_text(SPEC)
    (tmp_path / "noisy.py").write_text(NOISY)

    def shell(command, **more):
        python = f"{sys.executable} -c 'from qatspec.cli.main import main; main()'"
        return subprocess.run(
            ["bash", "-c", command.replace("qatspec", python, 1)],
            capture_output=True, cwd=tmp_path, timeout=120, **more,
        )  # fmt: skip

    return shell


@pytest.mark.parametrize("output", FORMATS)
def test_what_a_plugin_prints_goes_to_stderr(shell, output):
    done = shell(f"qatspec validate spec.yaml --allow-code --format {output}")
    assert done.returncode == 0, done.stderr.decode()
    said = done.stdout.decode()
    if output == "text":
        assert said.startswith("spec.yaml: ok") and "from" not in said
    elif output != "github":
        json.loads(said)
    assert all(f"from {noise}\n".encode() in done.stderr for noise in NOISES)


def test_json_of_a_command_that_ends_in_an_error(shell):
    done = shell("qatspec plan spec.yaml --allow-code --set march=no --format json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["diagnostics"][0]["code"] == "QS301"


def test_help_and_version_are_output(shell):
    for asked in ("--help", "--version", "plan --help", "plugins list --help"):
        done = shell(f"qatspec {asked}")
        assert (done.returncode, done.stderr) == (0, b"")
        assert b"qatspec" in done.stdout.lower() or b"Usage" in done.stdout


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the system has no /dev/full")
@pytest.mark.parametrize(
    "command",
    ["--help", "explain QS101", "plugins list", "validate spec.yaml --allow-code --format json",
     "validate missing.yaml --format json"],
)  # fmt: skip
def test_a_full_disk_behind_stdout(shell, command):
    done = shell(f"qatspec {command} > /dev/full")
    assert done.returncode == 1
    assert b"QS945" in done.stderr and b"No space left" in done.stderr
    assert b"Traceback" not in done.stderr and b"internal" not in done.stderr


def test_a_reader_that_goes_away(tmp_path):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-c", "from qatspec.cli.main import main; main(['schema'])"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, timeout=60)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "2>/dev/full", "<&-", ">&- <&-"])
def test_closed_descriptors(shell, closed):
    done = shell(f"qatspec validate spec.yaml --set plugins=[] {closed}")
    assert done.returncode == 0, done.stderr
    assert done.stderr == b""
    if not closed.startswith(">"):
        assert done.stdout.startswith(b"spec.yaml: ok")


def test_what_a_plugin_prints_with_stderr_closed(shell):
    done = shell("qatspec validate spec.yaml --allow-code --format json 2>&-")
    assert done.returncode == 0
    json.loads(done.stdout)


#: where the name of the file stands
PLACES = {
    "json": ("diagnostics", 0, "span", "file"),
    "sarif": (
        "runs",
        0,
        "results",
        0,
        "locations",
        0,
        "physicalLocation",
        "artifactLocation",
        "uri",
    ),
}
HOSTILE = "\x1b]0;owned\x07\x1b[2J\u202egnp\n::error::forged\r\x9b31m.yaml"


@pytest.mark.parametrize("output", FORMATS)
def test_names_of_files_are_shown_and_not_obeyed(capsys, tmp_path, monkeypatch, output):
    monkeypatch.chdir(tmp_path)
    (tmp_path / HOSTILE).write_text("qatspec: 1\nname: 'x'\n")
    near = HOSTILE.replace("owned", "owner")
    for arguments in (
        ["validate", HOSTILE],
        ["validate", near],
        [HOSTILE],
        ["plan", HOSTILE, "-x"],
    ):
        main.run([*arguments, "--format", output])
        said = "".join(capsys.readouterr())
        assert not set(said) & set("\x1b\x07\u202e\x9b\r"), repr(said)
        forged = [line for line in said.splitlines() if line.strip().startswith("::error::")]
        assert not forged
        if output in ("json", "sarif") and arguments[0] == "validate":
            value = json.loads(said)
            for key in PLACES[output]:
                value = value[key]
            assert value == arguments[1]


def test_arguments_that_are_not_utf_8(shell):
    done = shell("qatspec validate $'\\xff\\x1b[31m.yaml'")
    assert done.returncode == 1
    assert b"QS101" in done.stderr and b"\x1b" not in done.stderr


def test_only_one_module_prints():
    for path in sorted(Path(main.__file__).parent.glob("*.py")):
        calls = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
        named = {ast.unparse(call.func) for call in calls}
        wrong = named & {"print", "click.echo", "click.secho", "Console", "sys.stdout.write"}
        assert not wrong or path.name == "streams.py", path.name
