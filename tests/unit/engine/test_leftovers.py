"""What killed runs left behind is swept by the next one; what living processes use is not."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path

import pytest

from qatspec.process import scratch_folder, sweep_scratch
from qatspec.process.scratch import PART, PREFIX

#: Holds a folder that is being made and a scratch folder until it is killed.
HOLDER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    from qatspec.process import folder_being_made, scratch_folder
    with folder_being_made(Path(sys.argv[1]) / "target") as part, scratch_folder() as scratch:
        (part / "half").write_text("x")
        (scratch / "store").write_text("x")
        print("ready", flush=True)
        time.sleep(600)
    """
)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """A folder for temporary files of this test's own."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def holder(project, temporary):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(project.workdir / "data")],
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.wait()


def left(*folders: Path) -> list[str]:
    return sorted(
        p.name
        for folder in folders
        for p in folder.iterdir()
        if p.name.startswith((PART, PREFIX, ".qatspec-")) or p.name.endswith(".tmp")
    )


def test_folders_of_killed_processes_are_swept_and_those_of_living_ones_are_not(
    project, holder, temporary
):
    data = project.workdir / "data"
    mine = temporary / f"{PREFIX}notes"  # a user's folder with such a name has no lock of ours
    mine.mkdir()
    (mine / ".lock").write_text("")
    before = left(data, temporary)
    assert len(before) == 3
    project.run(step="float")
    assert left(data, temporary) == before
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    project.run(step="float")
    assert left(data, temporary) == [mine.name]


def test_temporaries_in_stage_folders_are_swept(project):
    project.run(step="float")
    (project.workdir / "float/.qatspec-dead.tmp").write_text("")
    (project.workdir / "float/float-checkpoint-last.pth.tar.tmp").write_text("")
    (project.workdir / ".qatspec-dead.tmp").write_text("")
    (project.workdir / "notes.tmp").write_text("")
    project.run(step="float")
    assert left(project.workdir, project.workdir / "float") == ["notes.tmp"]


def test_the_folder_of_a_killed_smoke_run_is_removed(project):
    smoke = project.workdir.with_name("work-smoke")
    project.run(step="float", smoke=True)
    project.run(step="float")
    assert smoke.is_dir()  # it came to its end
    (smoke / "summary.json").unlink()
    with (smoke / ".lock").open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        project.run(step="float")
        assert smoke.is_dir()  # a living run holds it
    project.run(step="float")
    assert not smoke.exists()


def test_a_work_directory_of_such_a_name_is_not_a_smoke_runs(project):
    other = project.workdir.with_name("work-smoke")
    other.mkdir()
    (other / ".lock").write_text("")
    project.run(step="float")
    assert other.is_dir()


def test_a_folder_is_whole_or_absent(tmp_path):
    from qatspec.api import folder_being_made

    with pytest.raises(RuntimeError), folder_being_made(tmp_path / "a") as part:
        (part / "file").write_text("x")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with folder_being_made(tmp_path / "a") as part:
        (part / "file").write_text("x")
        assert not (tmp_path / "a").exists()
    assert [p.name for p in tmp_path.rglob("*")] == ["a", "file"]
    with folder_being_made(tmp_path / "a") as part:  # another process was quicker
        (part / "file").write_text("y")
    assert (tmp_path / "a/file").read_text() == "x"


def test_a_folder_without_a_lock_yet_is_left_alone(tmp_path):
    making = tmp_path / f"{PREFIX}making"
    making.mkdir()
    lock = making / ".qatspec-scratch-lock.new"
    lock.write_text("")
    sweep_scratch(tmp_path, PREFIX)
    assert making.is_dir()
    os.utime(making, (time.time() - 3600,) * 2)
    sweep_scratch(tmp_path, PREFIX)
    assert not making.exists()
    with scratch_folder(tmp_path) as mine:
        sweep_scratch(tmp_path, PREFIX)
        assert mine.is_dir()
    assert list(tmp_path.iterdir()) == []


def test_every_temporary_folder_is_one_that_is_swept():
    """Python's own temporary folders stay for ever where their process is killed."""
    root = Path(__file__).parents[3]
    made = {
        str(path.relative_to(root))
        for path in (*root.glob("qatspec/**/*.py"), *root.glob("plugins/*/**/*.py"))
        if re.search(r"mkdtemp|mkstemp|TemporaryDirectory|NamedTemporary", path.read_text())
    }
    kit = {path for path in made if path.startswith("qatspec/testing/")}  # runs in tests of plugins
    assert made - kit == {"qatspec/process/scratch.py"}
