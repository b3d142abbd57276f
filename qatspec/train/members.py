"""The other processes of a data-parallel training: what they report, and how they end."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess, parent_process
from typing import Any

import torch.distributed as dist

from qatspec.diag import Diagnostic, DiagnosticError, Note, PluginFault
from qatspec.diag.codes import QS908
from qatspec.registry import registry

#: What a process sends before it joins the group.
_READY = "ready"

Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a process ended: diagnostics, and the traceback."""

    diagnostics: tuple[Diagnostic, ...]
    trace: str


class Members:
    """The state of the other processes in rank 0. Their messages are read by a thread, so that no
    process waits for another one to read; `pass_on` is called by the main thread."""

    def __init__(
        self, processes: Sequence[BaseProcess], pipes: Sequence[Connection], report: Report
    ) -> None:
        self._processes = processes
        self._report = report
        self._messages: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
        self._faults: dict[int, Fault] = {}
        self._logged: set[Any] = set()
        self._ready = 0
        self._reader = threading.Thread(target=self._read, args=(list(pipes),), daemon=True)
        self._reader.start()

    def wait_until_ready(self) -> None:
        """Wait until each of the other processes is about to join the group. Raises DiagnosticError
        where one ends before that, because rank 0 would wait for it in native code."""
        alive = {process.sentinel: process for process in self._processes}
        while self._ready < len(self._processes):
            if wait(alive, timeout=0.1) and (fault := self.fault(1)) is not None:
                raise fault

    def report(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report for rank 0, and then what the others have reported since."""
        self._once(kind, data)
        self.pass_on()

    def pass_on(self) -> None:
        """Report what the others have reported since."""
        while not self._messages.empty():
            self._once(*self._messages.get())

    def _once(self, kind: str, data: Mapping[str, Any]) -> None:
        """Report, but what several processes log only once."""
        if kind == "log":
            logged = data.get("diagnostic", data["message"])
            if logged in self._logged:
                return
            self._logged.add(logged)
        self._report(kind, data)

    def fault(self, seconds: float) -> DiagnosticError | None:
        """Why another process ended before its work was done, waiting for its end at most so long;
        None where none has."""
        ending = wait([process.sentinel for process in self._processes], seconds)
        for process in self._processes:
            if process.sentinel in ending:
                process.join(timeout=seconds)  # its files are closed a moment before it has ended
        self._reader.join(timeout=1)
        for rank in sorted(self._faults):
            fault = self._faults[rank]
            where = Note(f"in the training process of rank {rank}")
            error = DiagnosticError(replace(d, notes=(*d.notes, where)) for d in fault.diagnostics)
            error.__cause__ = RuntimeError(f"in the process of rank {rank}:\n{fault.trace}")
            return error
        ended = [(rank, p) for rank, p in enumerate(self._processes, 1) if p.exitcode]
        return DiagnosticError(_ended(*ended[0])) if ended else None

    def end(self, seconds: float) -> None:
        """Wait so long for the others to end, then kill those that have not."""
        for process in self._processes:
            process.join(timeout=seconds)
            if process.is_alive():
                process.kill()
                process.join()
        self._reader.join(timeout=1)

    def kill(self) -> None:
        """Kill the others."""
        for process in self._processes:
            process.kill()

    def _read(self, pipes: list[Connection]) -> None:
        ranks = {pipe: rank for rank, pipe in enumerate(pipes, 1)}
        while pipes:
            for pipe in wait(pipes):
                assert isinstance(pipe, Connection)
                try:
                    message = pipe.recv()
                except (EOFError, OSError, pickle.UnpicklingError):
                    pipes.remove(pipe)
                    continue
                if message == _READY:
                    self._ready += 1
                elif isinstance(message, Fault):
                    self._faults[ranks[pipe]] = message
                else:
                    self._messages.put(message)


def take_part(pipe: Connection, work: Callable[[Report], object]) -> None:
    """Do the work of a process other than rank 0: its warnings and its end go through `pipe`."""
    for number in (signal.SIGINT, signal.SIGHUP):  # as `interrupt.masked`, for its own children
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()

    def report(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "log":  # rank 0 reports the progress of all
            pipe.send((kind, dict(data)))

    pipe.send(_READY)
    try:
        work(report)
    except BaseException as error:  # noqa: BLE001  rank 0 raises it
        if not is_lost_connection(error):
            pipe.send(Fault(_diagnostics(error), traceback.format_exc()))
        sys.exit(1)


def is_lost_connection(error: BaseException) -> bool:
    """Return whether a collective failed because another process ended."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _end_with_parent() -> None:
    """A killed rank 0 ends no process, and one that waits for it would wait for ever."""
    parent = parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os._exit(1)


def _diagnostics(error: BaseException) -> tuple[Diagnostic, ...]:
    if isinstance(error, DiagnosticError):
        return error.diagnostics
    fault = error if isinstance(error, PluginFault) else registry().plugin_fault(error)
    if fault is not None:
        return (fault.diagnostic(),)
    words = str(error).partition("\n")[0]
    return (
        QS908.diagnostic(
            f"a training process failed: {type(error).__name__}: {words}",
            help="run with `--nproc 1` to see whether the error is of the training itself; "
            "--debug shows the traceback",
        ),
    )


def _ended(rank: int, process: BaseProcess) -> Diagnostic:
    code = process.exitcode or 0
    how = f"ended with exit code {code}"
    if code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    help_ = "run the same command again: training resumes from the last checkpoint"
    if code == -signal.SIGKILL:
        help_ = (
            "the system kills processes where memory runs out: lower `batch_size`, `workers` or "
            f"`--nproc`; {help_}"
        )
    return QS908.diagnostic(
        f"the training process of rank {rank} (pid {process.pid}) {how}", help=help_
    )
