"""The same bytes from every way to start two processes."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.conftest import Project
from tests.unit.engine.test_interrupt import PATIENCE, WAITER, gone, members, results

RUN = ("run", "toy.yaml", "--allow-code", "--workdir", "work", "--device", "cpu")
pytestmark = pytest.mark.slow


def make(folder: Path) -> Project:
    """A project that trains ten steps an epoch and can be made to wait after a checkpoint."""
    project = Project(folder)
    project.edit("count: 32", "count: 160")
    plugin = project.folder / "toy_plugin.py"
    plugin.write_text(plugin.read_text() + WAITER)
    return project


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("localhost", 0))
        return found.getsockname()[1]


def start(project: Project, *command: str, **variables: str) -> subprocess.Popen:
    return subprocess.Popen(
        [*command] or project.command_line(*RUN), cwd=project.folder, text=True,
        env={**project.environment(), **variables}, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def end(process: subprocess.Popen) -> str:
    """What a process that succeeds prints on stdout."""
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return out


@pytest.fixture(scope="module")
def by_nproc(tmp_path_factory):
    """The results of `--nproc 2`."""
    project = make(tmp_path_factory.mktemp("nproc") / "project")
    result = project.command(*RUN, "--nproc", "2")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.count("1/5 float") == 1
    return results(project.workdir)


def test_torchrun(tmp_path, by_nproc):
    """It sets OMP_NUM_THREADS, unless that is set; neither counts."""
    project = make(tmp_path / "project")
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    end(start(project, sys.executable, *torchrun, "-m", "qatspec", *RUN, OMP_NUM_THREADS="3"))
    assert results(project.workdir) == by_nproc
    told = project.command("plan", *RUN[1:-2], "--device", "cpu", "--nproc", "2").stdout
    assert told.count("cached") == 5, told


def test_two_machines_without_a_common_disk(tmp_path, by_nproc):
    """Whatever sets the variables: the second process has the spec and its plugin, and that is
    all."""
    first, second = (make(tmp_path / name) for name in ("first", "second"))
    where = {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": str(free_port())}
    spec, plugin = first.folder, second.folder / "toy_plugin.py"
    processes = [
        start(project, RANK=str(rank), LOCAL_RANK="0", **where)
        for rank, project in enumerate((first, second))
    ]
    printed = [end(process) for process in processes]
    assert printed[1] == ""
    assert results(first.workdir) == by_nproc
    kept = {p.name for p in second.folder.iterdir() if p.name != "__pycache__"}
    assert kept == {p.name for p in spec.iterdir() if p.name not in ("work", "__pycache__")}
    assert plugin.exists()


def test_two_agents_and_a_killed_one(tmp_path, by_nproc):
    """The agent that is left waits until the other one is started again, and both resume."""
    project = make(tmp_path / "project")
    (tmp_path / "wait").mkdir()
    here = tmp_path / "wait/here"
    command = project.command_line(
        *RUN, "--nnodes", "2", "--rdzv-endpoint", f"localhost:{free_port()}",
        "--max-restarts", "3",
    )  # fmt: skip
    agents = [start(project, *command, WAIT=str(here.parent))]
    time.sleep(3)  # the first one to arrive is where both meet
    agents.append(start(project, *command, WAIT=str(here.parent)))
    try:
        deadline = time.monotonic() + PATIENCE
        while not here.exists():
            assert time.monotonic() < deadline
            assert [agent.poll() for agent in agents] == [None, None]
            time.sleep(0.1)
        others = members(agents[1].pid)
        os.kill(agents[1].pid, signal.SIGKILL)
        agents[1].wait()
        assert gone(others.values())
        if here.exists():
            here.unlink()
        shutil.rmtree(here.parent)
        again = start(project, *command)
        end(again)
        end(agents[0])
    finally:
        for agent in agents:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(agent.pid, signal.SIGKILL)
    assert results(project.workdir) == by_nproc


def test_a_killed_process_is_started_again(tmp_path, by_nproc):
    project = make(tmp_path / "project")
    (tmp_path / "wait").mkdir()
    here = tmp_path / "wait/here"
    command = project.command_line(*RUN, "--nproc", "2", "--max-restarts", "1")
    launcher = start(project, *command, WAIT=str(here.parent))
    deadline = time.monotonic() + PATIENCE
    while not here.exists():
        assert time.monotonic() < deadline
        assert launcher.poll() is None, launcher.communicate()
        time.sleep(0.1)
    os.kill(members(launcher.pid)[1], signal.SIGKILL)
    here.unlink()
    shutil.rmtree(here.parent)
    assert "resumed from step" in end(launcher)
    assert results(project.workdir) == by_nproc


def test_batch_size_counts_for_each_process():
    """What the schema says of `batch_size`."""
    from qatspec.train.loader import Loader

    class Numbers:
        classes = ()

        def __len__(self) -> int:
            return 24

    loader = Loader(Numbers(), batch_size=4, seed=0, world=2)  # type: ignore[arg-type]
    assert loader.epoch_steps == 3
