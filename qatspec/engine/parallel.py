"""Several calls at the same time, each in a process of its own whose events arrive here."""

from __future__ import annotations

import contextlib
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any

import torch

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS908
from qatspec.process import interrupt
from qatspec.process.interrupt import Interrupted
from qatspec.train.faults import Fault, fault_of
from qatspec.train.process import pick_device
from qatspec.types import StageEvent

#: Seconds after which a signal to this process is noticed.
_TICK = 0.2
#: Seconds that a process gets to save its last step.
_PATIENCE = 60.0


@dataclass(frozen=True)
class Call:
    """name: what messages call it; arguments: of the function, but for `on_event`."""

    name: str
    arguments: Mapping[str, Any]


def run_all(
    function: Callable[..., object],
    calls: Sequence[Call],
    devices: Sequence[str],
    hear: Callable[[str, StageEvent], None],
) -> None:
    """Call `function(**arguments, device=..., on_event=...)` for each of `calls`, as many at a time
    as there are devices, and wait for all. hear: gets (name, event).

    The first one that fails stops the others, which save their last step; its error is raised
    here: DiagnosticError, or QS908 where the process was killed. A signal to this process stops all
    and raises Interrupted.
    """
    waiting, free = list(calls), list(devices)
    running: dict[Connection, _Running] = {}
    try:
        while waiting or running:
            while waiting and free:
                started = _start(function, waiting.pop(0), free.pop(0))
                running[started.connection] = started
            for connection in wait(list(running), _TICK):
                one = running[connection]  # type: ignore[index]
                if _hear(one, hear):
                    del running[one.connection]
                    one.process.join()
                    free.append(one.device)
            interrupt.check()
    finally:
        _stop(running.values(), hear)


def devices_of(device: str, jobs: int | None, calls: int) -> list[str]:
    """Where calls run, one entry for each that runs at the same time.

    device  of `--device`. jobs: how many at the same time; None: one for each GPU where `device`
            names none of them, else one."""
    count = torch.cuda.device_count()
    several = pick_device(device).type == "cuda" and ":" not in device
    jobs = min(jobs or (count if several else 1), calls)
    return [f"cuda:{number % count}" if several else device for number in range(jobs)]


@dataclass
class _Running:
    call: Call
    device: str
    process: SpawnProcess
    connection: Connection


def _start(function: Callable[..., object], call: Call, device: str) -> _Running:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    arguments = (theirs, function, {**call.arguments, "device": device}, torch.get_num_threads())
    process = context.Process(target=_child, args=arguments)
    process.start()
    theirs.close()
    return _Running(call, device, process, ours)


def _hear(one: _Running, hear: Callable[[str, StageEvent], None]) -> bool:
    """Take one message of a process; return whether it was the last one. Raises its error."""
    try:
        kind, said = one.connection.recv()
    except (EOFError, OSError):
        one.process.join()
        raise QS908.error(
            f"the process of candidate {one.call.name} ended with exit code {one.process.exitcode}",
            help="run the same command again: training resumes from the last checkpoint",
        ) from None
    if kind == "event":
        hear(one.call.name, said)
    elif kind == "interrupted":
        raise Interrupted(said)
    elif kind == "failed":
        fault: Fault = said
        error = DiagnosticError(fault.diagnostics)
        error.__cause__ = RuntimeError(f"in the process of {one.call.name}:\n{fault.trace}")
        raise error
    return bool(kind == "done")


def _stop(running: Any, hear: Callable[[str, StageEvent], None]) -> None:
    for one in running:
        one.process.terminate()
    for one in running:
        with contextlib.suppress(Interrupted, DiagnosticError):
            while one.connection.poll(_PATIENCE) and not _hear(one, hear):
                pass
        one.process.join(_PATIENCE)
        if one.process.is_alive():
            one.process.kill()
            one.process.join()


def _child(
    connection: Connection, function: Callable[..., object], arguments: Any, threads: int
) -> None:
    torch.set_num_threads(threads)
    try:
        function(**arguments, on_event=lambda event: connection.send(("event", event)))
    except Interrupted as error:
        last = ("interrupted", error.number)
    except BaseException as error:  # noqa: BLE001  the parent raises it
        last = ("failed", fault_of(error))  # type: ignore[assignment]
    else:
        last = ("done", None)  # type: ignore[assignment]
    with contextlib.suppress(OSError):  # the parent is gone
        connection.send(last)
    connection.close()
