"""Signals stop a run at a moment from which it goes on to the same bytes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import textwrap
import threading
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from qatspec.process import interrupt
from tests.conftest import Project
from tests.sample import sample

RUN = ("run", "toy.yaml", "--allow-code", "--workdir", "work", "--device", "cpu")

#: Seconds that a loaded machine may take.
PATIENCE = 300


@pytest.fixture(autouse=True)
def signals_are_not_ignored(monkeypatch):
    """Background jobs of a shell start with SIGINT ignored and those of nohup with SIGHUP, and a
    run leaves that as it is. A run in this process that unwinds slowly after a second signal would
    end the process of the tests."""
    monkeypatch.setattr(interrupt, "GRACE", 3600.0)
    ctrl_c = signal.signal(signal.SIGINT, signal.default_int_handler)
    hangup = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, ctrl_c)
    signal.signal(signal.SIGHUP, hangup)


#: Sends a signal to its own process at the N-th event of a kind of a stage. `raise_signal` returns
#: when the handler has run; `os.kill` may return before.
STOPPER = """

import collections, os, signal
_SEEN = collections.Counter()


@hookimpl
def qatspec_stage_event(event):
    kind = event.data.get("phase", event.kind)
    _SEEN[event.step, kind] += 1
    stage, wanted, count, *numbers = os.environ.get("STOP", "- - 0").split()
    if (event.step, kind) == (stage, wanted) and _SEEN[event.step, kind] == int(count):
        for number in numbers:
            signal.raise_signal(int(number))
"""

#: Waits in the first process of the run, after its first checkpoint, until a file is gone.
WAITER = """

import os, pathlib, time
_PLACE = pathlib.Path(os.environ.get("WAIT", os.devnull))
_STEPS = []


@hookimpl
def qatspec_stage_event(event):
    if event.data.get("phase", event.kind) == "progress":
        _STEPS.append(event)
        if len(_STEPS) == 4 and _PLACE.is_dir():
            (_PLACE / "here").touch()
            while (_PLACE / "here").exists():
                time.sleep(0.01)
"""


@pytest.fixture
def stopping(project, monkeypatch):
    (project.folder / "toy_plugin.py").write_text(
        (project.folder / "toy_plugin.py").read_text() + STOPPER
    )
    # several batches in every validation, and an epoch that is not judged
    project.edit("epochs: 3", "epochs: 3\n      validate_epochs: 2")
    yield project
    monkeypatch.undo()


def results(folder: Path) -> dict[str, str]:
    return {
        str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in sorted(folder.rglob("*"))
        if p.is_file()
        and p.name not in ("step.json", "summary.json", ".lock")
        and p.relative_to(folder).parts[0] != "logs"
    }


STOPS = [
    ("float", "progress", 1),
    ("float", "progress", 2),
    ("float", "progress", 1),  # the last step of an epoch that is not judged
    ("float", "progress", 4),  # the last step of an epoch that is
    ("float", "evaluate", 2),
    ("float", "metrics", 1),
    ("float", "progress", 4),  # the last step of all
    ("float", "evaluate", 1),
    ("calibration", "progress", 2),
    ("calibration", "evaluate", 2),
    ("qat", "progress", 1),
    ("qat", "evaluate", 1),
    ("convert", "step_started", 1),
    ("convert", "evaluate", 2),
    ("compile", "step_started", 1),
]


def test_a_run_that_is_interrupted_everywhere_ends_in_the_same_bytes(
    stopping, tmp_path, monkeypatch
):
    for place, (stage, kind, count) in enumerate(STOPS):
        number = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)[place % 3]
        monkeypatch.setenv("STOP", f"{stage} {kind} {count} {int(number)}")
        result = stopping.call(*RUN)
        assert result.returncode == 128 + number, (stage, kind, count, result.stderr)
        assert f"interrupted by {number.name} in stage {stage}" in result.stderr
        assert f"to resume: qatspec {shlex.join(RUN)}" in result.stderr
        assert ("saved: work/" in result.stderr) == (stage not in ("convert", "compile"))
        summary = json.loads((stopping.workdir / "summary.json").read_text())
        assert summary["steps"][-1]["stage"] == stage
        assert summary["steps"][-1]["status"] == "interrupted"
        assert not list(stopping.workdir.rglob("*.tmp"))
    monkeypatch.delenv("STOP")
    assert stopping.call(*RUN).returncode == 0
    unbroken = type(stopping)(tmp_path / "unbroken")
    for name in ("toy.yaml", "toy_plugin.py"):
        (unbroken.folder / name).write_bytes((stopping.folder / name).read_bytes())
    assert unbroken.call(*RUN).returncode == 0
    assert results(stopping.workdir) == results(unbroken.workdir)


def test_a_second_signal_stops_at_once_without_damage(stopping, monkeypatch):
    monkeypatch.setenv("STOP", "float progress 2 2 2")
    result = stopping.call(*RUN)
    assert result.returncode == 130
    assert "interrupted by SIGINT in stage float" in result.stderr
    assert "saved" not in result.stderr
    monkeypatch.delenv("STOP")
    assert stopping.call(*RUN, "--step", "float").returncode == 0


def test_a_process_that_unwinds_is_not_ended_later(monkeypatch):
    """Although the thread that counts the signals is late."""
    read = os.read
    monkeypatch.setattr(os, "read", lambda *arguments: (read(*arguments), time.sleep(0.2))[0])
    with interrupt.handled():
        with interrupt.deferred(), pytest.raises(interrupt.Interrupted):
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.3)
            signal.raise_signal(signal.SIGINT)
        time.sleep(0.1)  # the thread has read both, and has not looked at the second one
    timers = [t for t in threading.enumerate() if isinstance(t, threading.Timer)]
    assert all(timer.finished.is_set() for timer in timers)


@pytest.mark.parametrize(
    "arguments",
    [
        ("eval", "toy.yaml", "--stage", "float", "--stale", "--allow-code", "--workdir", "work"),
        ("plan", "toy.yaml", "--allow-code", "--workdir", "work"),
    ],
)
def test_commands_that_keep_nothing(arguments, copy, monkeypatch):
    """They stop where they are; nothing is promised that is not there."""
    plugin = copy.folder / "toy_plugin.py"
    before = results(copy.workdir)
    plugin.write_text(
        plugin.read_text().replace(
            "return self.count", "import signal; signal.raise_signal(15); return self.count"
        )
        if arguments[0] == "eval"
        else plugin.read_text() + "\nimport signal; signal.raise_signal(15)\n"
    )
    result = copy.call(*arguments)
    assert result.returncode == 143
    assert result.stderr.splitlines()[-1] == "interrupted by SIGTERM"
    assert results(copy.workdir) == before


# -- several processes ---------------------------------------------------------------------------


def members(pid: int) -> dict[int, int]:
    """Rank -> process of the living ones that the launcher `pid` started."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = (folder / "stat").read_text().rpartition(")")[2].split()
            if words[0] == "Z" or int(words[1]) != pid:
                continue
            variables = (folder / "environ").read_bytes().split(b"\0")
            (rank,) = (int(v.partition(b"=")[2]) for v in variables if v.startswith(b"RANK="))
            found[rank] = int(folder.name)
    return found


TWO = (*RUN, "--nproc", "2", "--step", "float")


def long_enough(project):
    """A project of 30 steps, 10 an epoch and process, that can be made to wait."""
    project.edit("count: 32", "count: 160")
    plugin = project.folder / "toy_plugin.py"
    plugin.write_text(plugin.read_text() + WAITER)
    return project


@pytest.fixture
def two(project, tmp_path):
    """`start` starts a run of two processes, in a group of its own, and returns when it has its
    first checkpoint and waits; `go_on` ends the waiting."""
    long_enough(project)
    started = []
    (tmp_path / "wait").mkdir()
    here = tmp_path / "wait/here"

    def start() -> tuple[subprocess.Popen, dict[int, int]]:
        process = subprocess.Popen(
            project.command_line(*TWO), cwd=project.folder,
            env={**project.environment(), "WAIT": str(here.parent)}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        started.append(process)
        deadline = time.monotonic() + PATIENCE
        while not here.exists():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (project.workdir / "float/float-checkpoint-last.pth.tar").exists()
        return process, members(process.pid)

    project.start, project.go_on = start, here.unlink
    yield project
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """The results of a run of two processes that nothing has stopped."""
    project = long_enough(Project(tmp_path_factory.mktemp("unbroken") / "project"))
    result = project.command(*TWO)
    assert (result.returncode, result.stderr) == (0, "")
    return results(project.workdir)


def alive(pid: int) -> bool:
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False


def gone(pids: Iterable[int]) -> bool:
    deadline = time.monotonic() + PATIENCE
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.slow
def test_ctrl_c_stops_all_processes(two, unbroken):
    """Sent to the launcher, as a terminal does, and then to a process of the resumed run, as a
    scheduler may do."""
    for number, rank in ((2, None), (15, 1)):
        process, others = two.start()
        assert set(others) == {0, 1}
        os.kill(process.pid if rank is None else others[rank], number)
        two.go_on()
        _, errors = process.communicate(timeout=PATIENCE)
        assert process.returncode == 128 + number, errors
        assert "saved: work/float/float-checkpoint-last.pth.tar" in errors, errors
        assert f"to resume: qatspec {shlex.join(TWO)}" in errors
        assert errors.count("interrupted by") == 1
        assert "Traceback" not in errors and "Warning" not in errors
        assert gone(others.values())
    result = two.command(*TWO)
    assert (result.returncode, result.stderr) == (0, "")
    assert results(two.workdir) == unbroken


@pytest.mark.slow
@pytest.mark.parametrize("rank", sample([1, 0], 2))
def test_a_killed_process_is_named(two, rank):
    process, others = two.start()
    os.kill(others[rank], signal.SIGKILL)
    two.go_on()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert errors.count("QS908") == 1
    assert f"rank {rank} (pid {others[rank]}) was killed by signal 9 (SIGKILL)" in errors
    assert "Traceback" not in errors
    assert gone(others.values())


@pytest.mark.slow
def test_a_worker_of_another_process_is_named(two):
    """Every process has workers of its own."""
    two.edit("batch_size: 8}\n  val", "batch_size: 8, workers: 2}\n  val")
    process, others = two.start()
    other = others[1]
    tasks = Path(f"/proc/{other}/task/{other}/children")
    if not tasks.exists():
        pytest.skip("the kernel does not list the children of a process")
    worker = int(tasks.read_text().split()[0])
    os.kill(worker, signal.SIGKILL)
    two.go_on()
    _, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1, errors
    assert "QS952" in errors
    assert f"(pid {worker}) was killed by signal 9 (SIGKILL)" in errors
    assert "in the training process of rank 1" in errors
    assert "Traceback" not in errors
    assert gone([other, worker])


@pytest.mark.slow
def test_no_process_outlives_a_killed_run(two):
    process, others = two.start()
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=PATIENCE)
    assert gone(others.values())


@pytest.mark.slow
def test_a_killed_worker_is_named(project):
    """The worker of the second batch kills itself, as the out-of-memory killer would."""
    project.edit("batch_size: 8}\n  val", "batch_size: 8, workers: 2}\n  val")
    plugin = project.folder / "toy_plugin.py"
    plugin.write_text(
        plugin.read_text().replace(
            "label = index % 4",
            textwrap.dedent("""\
            import os, torch
            worker = torch.utils.data.get_worker_info()
            if worker is not None and worker.id == 1:
                os.kill(os.getpid(), 9)
            label = index % 4""").replace("\n", "\n        "),
        )
    )
    result = project.command(*RUN)
    assert result.returncode == 1
    assert "QS952" in result.stderr
    assert "data loader worker 1 (pid " in result.stderr
    assert "was killed by signal 9 (SIGKILL)" in result.stderr
    assert "Traceback" not in result.stderr
    # following the help
    project.edit("workers: 2", "workers: 0")
    assert project.call(*RUN, "--step", "float").returncode == 0


@pytest.mark.slow
def test_warnings_and_faults_of_other_processes_reach_the_terminal(project):
    plugin = project.folder / "toy_plugin.py"
    warning = (
        "label = index % 4\n"
        "        if index == 31:\n"
        '            raise codes.QS911.error("number 31")'
    )
    plugin.write_text(plugin.read_text().replace("label = index % 4", warning))
    result = project.command(*RUN, "--nproc", "2", "--step", "float")
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("number 31") == 1
    assert "Warning" not in result.stderr
    project.edit("lr: 0.05", "lr: 0.06")
    fault = (
        '"""The blob."""\n        import torch.distributed as dist\n'
        "        if dist.is_initialized() and dist.get_rank() == 1:\n"
        '            raise KeyError("only rank 1 meets this")\n        label = index % 4'
    )
    plugin.write_text(plugin.read_text().replace("label = index % 4", fault, 1))
    result = project.command(*RUN, "--nproc", "2", "--step", "float")
    assert result.returncode == 3, result.stderr
    assert "only rank 1 meets this" in result.stderr
    assert "Traceback" not in result.stderr
