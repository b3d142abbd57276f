"""Run numbered inputs in child processes and count how each ended.

A target is opened once in every child and then called with input numbers. An input is made from
(seed, number) alone, so that a run can stop at any time, resume later and show any input again.
A child that dies, hangs, grows beyond `MEMORY` or executes something is recorded with the number
of the input, and the run continues behind it.
"""

from __future__ import annotations

import faulthandler
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Seconds that one input may take on a loaded machine before it counts as a hang.
PATIENCE = 20.0
#: Seconds until a fresh child has imported torch, in addition to PATIENCE.
WARM_UP = 100.0
#: MiB by which no child may grow beyond the size that it had when the target was open.
MEMORY = 400
#: Faults that are kept with their input, a kind of fault.
SAVED = 200
#: Inputs after which a fresh child continues.
SHARE = 20_000
#: Audit events of the interpreter that no input may cause.
EXECUTION = frozenset(
    {"os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn",
     "subprocess.Popen", "socket.connect", "socket.bind", "ctypes.dlopen", "webbrowser.open"}
)  # fmt: skip

#: One input: (codes of the diagnostics that it ended in, the traceback where it raised otherwise).
Tried = tuple[list[str], str]
#: Opens a target in a folder of its own; what it returns tries the input (seed, number).
Opener = Callable[[Path], Callable[[int, int], Tried]]


def run(
    opener: Opener, *, count: int, seconds: float, seed: int, state: Path | None
) -> dict[str, Any]:
    """Try inputs until `count` are done in all or `seconds` have passed; returns the figures.

    opener  a function of an importable module (it is sent to child processes by name).
    state   file to resume from, rewritten after each child; None keeps nothing.
    """
    figures = _start(seed, state)
    until = time.monotonic() + seconds
    while figures["inputs"] < count and time.monotonic() < until:
        _child(opener, figures, count, until, seed)
        if state is not None:
            state.write_text(json.dumps(figures, indent=2))
    return figures


def failed(figures: dict[str, Any]) -> bool:
    """Return whether any input ended in something else than a result or a diagnostic."""
    return any(figures[kind] for kind in ("tracebacks", "hangs", "deaths", "executions", "memory"))


def _start(seed: int, state: Path | None) -> dict[str, Any]:
    if state is not None and state.exists():
        figures: dict[str, Any] = json.loads(state.read_text())
        if figures["seed"] == seed:
            return figures
    return {
        "seed": seed, "inputs": 0, "seconds": 0.0, "ok": 0, "diagnosed": 0, "codes": {},
        "tracebacks": [], "hangs": [], "deaths": [], "executions": [], "memory": [],
        "slowest": {"seconds": 0.0, "index": None}, "peak_mib": 0.0,
    }  # fmt: skip


def _child(opener: Opener, figures: dict[str, Any], count: int, until: float, seed: int) -> None:
    """Try inputs in one child until the count, the budget, a hang or its death."""
    ours, theirs = multiprocessing.Pipe(duplex=False)
    last = min(count, figures["inputs"] + SHARE)
    child = multiprocessing.get_context("spawn").Process(
        target=_work, args=(opener, theirs, seed, figures["inputs"], last, until), daemon=True
    )
    child.start()
    theirs.close()
    index = figures["inputs"]
    while True:
        try:
            if not ours.poll(PATIENCE + (WARM_UP if index == figures["inputs"] else 0)):
                _keep(figures["hangs"], index)
                figures["inputs"] = index + 1
                break
            message = ours.recv()
        except EOFError:
            child.join()
            if child.exitcode:
                _keep(figures["deaths"], [index, child.exitcode])
                figures["inputs"] = index + 1
            return
        _count(figures, message)
        index = figures["inputs"]
        if message["grown_mib"] > MEMORY:
            _keep(figures["memory"], [message["index"], round(message["grown_mib"])])
            break
    child.kill()
    child.join()


def _keep(faults: list[Any], item: Any) -> None:
    if len(faults) < SAVED:
        faults.append(item)


def _count(figures: dict[str, Any], message: dict[str, Any]) -> None:
    index = message["index"]
    figures["inputs"] = index + 1
    figures["seconds"] += message["seconds"]
    figures["peak_mib"] = max(figures["peak_mib"], message["grown_mib"])
    if message["seconds"] > figures["slowest"]["seconds"]:
        figures["slowest"] = {"seconds": message["seconds"], "index": index}
    if message["executed"]:
        _keep(figures["executions"], [index, message["executed"]])
    if message["traceback"]:
        _keep(figures["tracebacks"], [index, message["traceback"]])
    elif message["codes"]:
        figures["diagnosed"] += 1
        for code in message["codes"]:
            figures["codes"][code] = figures["codes"].get(code, 0) + 1
    else:
        figures["ok"] += 1


def _work(opener: Opener, pipe: Any, seed: int, first: int, last: int, until: float) -> None:
    """In the child: try inputs `first` to `last` and send a message for each."""
    faulthandler.enable()
    with tempfile.TemporaryDirectory() as folder:
        attempt = opener(Path(folder))
        executed = watch(Path(folder))
        before = peak()
        for index in range(first, last):
            if time.monotonic() > until:
                break
            executed.clear()
            start = time.perf_counter()
            codes, words = attempt(seed, index)
            pipe.send(
                {
                    "index": index,
                    "seconds": time.perf_counter() - start,
                    "codes": codes,
                    "traceback": words,
                    "executed": list(executed),
                    "grown_mib": peak() - before,
                }
            )
    pipe.close()


def watch(folder: Path) -> list[str]:
    """A list to which every event of EXECUTION is added from now on, and every file that is
    written, renamed or removed outside `folder`. Audit hooks stay until the process ends."""
    events: list[str] = []
    own = (os.path.realpath(folder), "/dev/", "/proc/")
    changing = os.O_WRONLY | os.O_RDWR | os.O_CREAT

    def inside(path: Any) -> bool:
        if isinstance(path, int):
            return True
        return os.path.realpath(os.fsdecode(path)).startswith(own)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in EXECUTION:
            events.append(f"{event} {arguments!r:.200}")
        elif event == "open" and (arguments[2] or 0) & changing and not inside(arguments[0]):
            events.append(f"writes {arguments[0]!r:.200}")
        elif event in ("os.remove", "os.rename", "os.rmdir") and not inside(arguments[0]):
            events.append(f"{event} {arguments[0]!r:.200}")

    sys.addaudithook(hook)
    return events


def peak() -> float:
    """The largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
