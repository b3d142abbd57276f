"""`qatspec run` as one of several processes: starting them, and what their ends mean.

`--nproc` starts torch's elastic launcher, which is what torchrun is, on the same command line. The
processes that it starts find RANK and the other variables in their environment, as under any other
launcher, and take no notice of `--nproc`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from qatspec.cli.output import ARGUMENTS, settings
from qatspec.cli.streams import stdout_for_children
from qatspec.diag.codes import QS908
from qatspec.process import scratch_folder
from qatspec.process.interrupt import SIGNALS

if TYPE_CHECKING:
    from qatspec.train.distributed import Ranks

#: Tells the processes that this module started them, and names what has ended.
_LAUNCHED = "QATSPEC_LAUNCHED"
_AGAIN = "run the same command again: training resumes from the last checkpoint"


@contextlib.contextmanager
def rank_zero(device: str) -> Iterator[Ranks | None]:
    """Meet the other processes of the launcher, and run the block in rank 0 alone. Without a
    launcher, that is this process, which meets nobody (None).

    Raises click's Exit in the other ranks, when rank 0 has ended; DiagnosticError: QS907, QS908.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ:
        yield None
        return
    from qatspec.train.distributed import LOST, LostProcessError, ranks

    with ranks(device) as met:
        if not met.is_main:
            raise click.exceptions.Exit(met.serve())
        try:
            yield met
        except LostProcessError as error:
            if _LAUNCHED in os.environ:
                raise click.exceptions.Exit(LOST) from error
            raise QS908.error(
                f"{error}; its launcher says which one, and why", help=_AGAIN
            ) from error


def launch(nproc: int, nnodes: int, endpoint: str | None, max_restarts: int) -> None:
    """Start `nproc` processes of this command line and wait for their end.

    nnodes, endpoint   machines that do the same, and HOST:PORT where they meet.
    max_restarts       how often all processes are started again after one of them has ended.

    Raises click's Exit with the exit code of rank 0, which has reported everything; DiagnosticError
    QS908 where a process was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, launch_agent

    # torch's log would say everything that goes wrong a second time
    log = logging.getLogger("torch.distributed")
    log.handlers[:] = [logging.NullHandler()]
    log.propagate = False
    os.environ[_LAUNCHED] = "1"
    # Each round of processes meets in a store of its own: in a shared one, a machine that joins
    # later would find what an earlier round left.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    arguments = click.get_current_context().meta[ARGUMENTS]
    heard = [s.name for s in SIGNALS if signal.getsignal(s) is not signal.SIG_IGN]
    with scratch_folder() as folder, stdout_for_children():
        config = LaunchConfig(
            min_nodes=nnodes,
            max_nodes=nnodes,
            nproc_per_node=nproc,
            run_id="qatspec",
            rdzv_backend="c10d",
            rdzv_endpoint=endpoint or "localhost:0",
            max_restarts=max_restarts,
            logs_specs=DefaultLogsSpecs(log_dir=str(folder)),
            signals_to_handle=",".join(heard),
            shutdown_timeout=_STEP_SECONDS,
        )
        try:
            launch_agent(config, sys.executable, ["-m", "qatspec", *arguments])
            settings().written = True  # by rank 0
        except SignalException as error:
            raise click.exceptions.Exit(128 + error.sigval) from error  # rank 0 has told
        except ChildFailedError as error:
            _raise(error.failures)


#: Seconds that a process may take to finish its step after a signal, before it is killed.
_STEP_SECONDS = 600


def _raise(failures: Mapping[int, Any]) -> None:
    """Raise what the ends of the processes of this machine come to."""
    from qatspec.train.distributed import LOST

    #: ends that follow from another one's
    consequences = {LOST, -signal.SIGTERM, 128 + signal.SIGTERM}
    codes = {rank: failure.exitcode for rank, failure in failures.items()}
    killed = [r for r, code in codes.items() if code < 0 and code not in consequences]
    silent = [r for r, code in codes.items() if code not in consequences]
    unexplained = codes.get(0, LOST) == LOST
    for rank in killed or (silent if unexplained else []):
        message, help_ = _ended(rank, failures[rank].pid, codes[rank])
        raise QS908.error(message, help=help_)
    if unexplained:
        raise QS908.error("a training process on another machine ended", help=_AGAIN)
    raise click.exceptions.Exit(codes[0] if codes[0] > 0 else 1)


def _ended(rank: int, pid: int, code: int) -> tuple[str, str]:
    how, help_ = f"ended with exit code {code}", _AGAIN
    if code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
    if code == -signal.SIGKILL:
        help_ = (
            "the system kills processes where memory runs out: lower `batch_size`, `workers` or "
            f"`--nproc`; {_AGAIN}"
        )
    return f"the training process of rank {rank} (pid {pid}) {how}", help_
