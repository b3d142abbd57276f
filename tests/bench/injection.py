"""Runs of a spec that are forked from this process, and faults that are injected into them.

The parent imports torch once, so that a run costs no import. Faults are raised by an audit hook of
the child, at a numbered file operation in its work directory.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"
import qatspec.engine  # noqa: F401  imports torch once, before any fork
from qatspec.cli.main import run as command

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy"
QUICKSTART = ROOT / "specs" / "quickstart.yaml"
#: Files of a work directory whose bytes hold times, paths or locks.
UNSTABLE = ("step.json", "summary.json", ".lock", "logs")
#: Seconds after which a run counts as hanging.
PATIENCE = 900.0
#: A file plugin that records every event of a run beside the project.
EVENTS = """
import json, pathlib
from qatspec.api import hookimpl

@hookimpl
def qatspec_stage_event(event):
    data = {k: v for k, v in event.data.items() if isinstance(v, int | str | float | None)}
    with open(pathlib.Path(__file__).parents[1] / "events", "a") as file:
        file.write(json.dumps([event.kind, event.step, data]) + "\\n")
"""


@dataclass
class Fault:
    """What happens in a run at its file operation number `at`.

    kind  "kill", "torn", or the name of an errno, raised once (EIO) or from then on (others).
    """

    kind: str
    at: int
    workdir: Path
    count: int = 0
    unsynced: set[str] = field(default_factory=set)

    def install(self) -> None:
        """Watch this process from now on. Cannot be undone: call it in a child."""
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def synced(descriptor: int) -> None:
            path = os.readlink(f"/proc/self/fd/{descriptor}")
            if self._within(path):
                self._operation()
            fsync(descriptor)
            self.unsynced.discard(path)

        os.fsync = synced

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if event == "open" and (arguments[2] or 0) & writing and self._within(arguments[0]):
            self._operation()
            self.unsynced.add(os.path.abspath(os.fsdecode(arguments[0])))
        elif event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir"):
            if self._within(arguments[0]):
                self._operation()
            if event == "os.rename" and str(arguments[0]) in self.unsynced:
                self.unsynced.discard(str(arguments[0]))
                self.unsynced.add(str(arguments[1]))

    def _within(self, path: Any) -> bool:
        if isinstance(path, int):
            return False
        return os.path.abspath(os.fsdecode(path)).startswith(f"{self.workdir}/")

    def _operation(self) -> None:
        self.count += 1
        if self.kind in ("kill", "torn") and self.count == self.at:
            if self.kind == "torn":
                for path in sorted(self.unsynced):
                    with contextlib.suppress(OSError):
                        os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        once = self.kind == "EIO"
        if self.kind.startswith("E") and (self.count == self.at if once else self.count >= self.at):
            number = getattr(errno, self.kind)
            raise OSError(number, os.strerror(number))


@dataclass
class Project:
    """A spec in a folder of its own, and the runs of it."""

    folder: Path
    spec: str = "project/toy.yaml"
    options: tuple[str, ...] = ("--allow-code",)

    @staticmethod
    def toy(folder: Path) -> Project:
        shutil.copytree(TOY, folder / "project")
        project = Project(folder)
        (folder / "project/events.py").write_text(EVENTS)
        project.edit("plugins: [./toy_plugin.py]", "plugins: [./toy_plugin.py, ./events.py]")
        return project

    @staticmethod
    def quickstart(folder: Path, *options: str) -> Project:
        folder.mkdir(exist_ok=True)
        return Project(folder, str(QUICKSTART), options)

    @property
    def workdir(self) -> Path:
        return self.folder / "work"

    def edit(self, old: str, new: str) -> None:
        path = self.folder / self.spec
        text = path.read_text()
        assert old in text, old
        path.write_text(text.replace(old, new))

    def arguments(self) -> list[str]:
        return ["run", self.spec, "--workdir", str(self.workdir), "--device", "cpu", *self.options]

    def start(self, prepare: Callable[[], None] = lambda: None) -> int:
        """Fork a run; `prepare` is called in the child first. Returns its process id."""
        child = os.fork()
        if child:
            return child
        code = 99
        try:
            os.setpgid(0, 0)
            os.chdir(self.folder)
            log = os.open(self.folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            prepare()
            code = command(self.arguments())
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 98
        except BaseException:  # noqa: BLE001  written to the log, where it is looked for
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def run(self, prepare: Callable[[], None] = lambda: None) -> int:
        """The exit code of a run; minus the signal where one ended it."""
        return wait(self.start(prepare))

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def resumed(self) -> list[tuple[str, int | None]]:
        """(stage, step that it resumed from or None) of every start of a stage so far."""
        lines = (self.folder / "events").read_text().splitlines()
        events = (json.loads(line) for line in lines)
        return [(step, data.get("resumed_from")) for kind, step, data in events
                if kind == "step_started"]  # fmt: skip

    def results(self) -> dict[str, str]:
        """Path -> sha256 of every file whose bytes are the spec's alone."""
        return {
            str(path.relative_to(self.workdir)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(self.workdir.rglob("*"))
            if path.is_file() and not set(path.relative_to(self.workdir).parts) & set(UNSTABLE)
            and not path.relative_to(self.workdir).parts[0].startswith(".")
        }  # fmt: skip


def wait(child: int) -> int:
    """The exit code of a child, which is killed after PATIENCE (then: minus SIGKILL)."""
    until = time.monotonic() + PATIENCE
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.02)
