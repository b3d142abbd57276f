"""Worker processes of data loaders that die are reported by number, cause and remedy."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader

from qatspec.diag import Diagnostic, DiagnosticError


def watched(loader: DataLoader[Any]) -> Iterator[Any]:
    """The items of `loader`. Raises DiagnosticError QS952 when one of its workers has died."""
    with _without_torchs_handler():
        items = iter(loader)
    while True:
        try:
            item = next(items, items)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            break
        if item is items:
            return
        yield item
    died = _died(items)
    del items  # ends the other workers; the error caught above would have kept them
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


def _died(items: Any) -> Diagnostic:
    codes = {n: w for n, w in enumerate(getattr(items, "_workers", ())) if w.exitcode}
    number, worker = next(iter(codes.items()), (None, None))
    if worker is None:
        how = "died"
    elif worker.exitcode < 0:
        name = signal.Signals(-worker.exitcode).name
        how = f"{number} (pid {worker.pid}) was killed by signal {-worker.exitcode} ({name})"
    else:
        how = f"{number} (pid {worker.pid}) ended with exit code {worker.exitcode}"
    help_ = "run the same command again: training goes on from the last checkpoint"
    if worker is not None and worker.exitcode == -signal.SIGKILL:
        help_ = (
            "the system kills processes where memory runs out: lower `workers` or `batch_size` of "
            f"the data role, or give smaller pictures; {help_}"
        )
    elif worker is not None and worker.exitcode in (-signal.SIGSEGV, -signal.SIGBUS):
        help_ = (
            "set `workers: 0` for the data role to see where it happens; SIGBUS means that "
            f"`/dev/shm` is full; {help_}"
        )
    return Diagnostic(code="QS952", message=f"data loader worker {how}", help=help_)
