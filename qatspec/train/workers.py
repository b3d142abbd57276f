"""Worker processes of data loaders that die are reported by number, cause and remedy."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator, Mapping
from multiprocessing.connection import wait
from typing import Any

from torch.utils.data import DataLoader

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS952

#: Seconds that a worker may take to end after its connection broke.
_PATIENCE = 1.0


def watched(loader: DataLoader[Any]) -> Iterator[Any]:
    """The items of `loader`. Raises DiagnosticError QS952 when one of its workers has died."""
    with _without_torchs_handler():
        items = iter(loader)
    while True:
        try:
            item = next(items, items)
        except (RuntimeError, OSError, EOFError):
            # torch's own error, or one of the connection to a worker that was sending a batch
            if not _dead(items):
                raise
            break
        if item is items:
            return
        yield item
    died = _died(_dead(items))
    # ends the other workers; the error caught above, and a loader that keeps them, would not
    del items
    loader._iterator = None
    raise DiagnosticError(died)


@contextlib.contextmanager
def _without_torchs_handler() -> Iterator[None]:
    """torch installs a handler of SIGCHLD that raises wherever the main thread is, also between
    batches. Without it, the loader itself finds dead workers while it waits for a batch."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGCHLD, before)


def _dead(items: Any) -> dict[int, Any]:
    """Number -> process of the workers that have ended, although batches are still expected."""
    workers = getattr(items, "_workers", ())
    ending = wait([w.sentinel for w in workers], timeout=_PATIENCE) if workers else []
    for worker in workers:
        if worker.sentinel in ending:
            worker.join(_PATIENCE)  # its files are closed a moment before it has ended
    return {n: w for n, w in enumerate(workers) if w.exitcode is not None}


def _died(dead: Mapping[int, Any]) -> Diagnostic:
    number, worker = next(iter(dead.items()))
    if worker.exitcode < 0:
        name = signal.Signals(-worker.exitcode).name
        how = f"{number} (pid {worker.pid}) was killed by signal {-worker.exitcode} ({name})"
    else:
        how = f"{number} (pid {worker.pid}) ended with exit code {worker.exitcode}"
    help_ = "run the same command again: training resumes from the last checkpoint"
    if worker.exitcode == -signal.SIGKILL:
        help_ = (
            "the system kills processes where memory runs out: lower `workers` or `batch_size` of "
            f"the data role, or give smaller pictures; {help_}"
        )
    elif worker.exitcode in (-signal.SIGSEGV, -signal.SIGBUS):
        help_ = (
            "set `workers: 0` for the data role to see where it happens; SIGBUS means that "
            f"`/dev/shm` is full; {help_}"
        )
    return QS952.diagnostic(f"data loader worker {how}", help=help_)
