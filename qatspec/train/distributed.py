"""Data-parallel training: one process a device, gradients averaged by DDP.

The calling process is rank 0, so that events and results need no way back; it starts the others
(spawned, never forked: threads of torch do not survive a fork) and ends them with itself. The
others do not receive the signals of a terminal: rank 0 decides when all of them stop.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qatspec.process import interrupt, scratch_folder
from qatspec.train.members import Members, Report, is_lost_connection, take_part


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that train together, from the view of one of them."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return `module` with gradients averaged over the processes in backward. A parameter that
        a batch does not use contributes zero."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over the processes; not finite if it is not finite in one of them."""
        if self.world == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.world

    def share(self, value: Any) -> Any:
        """Return the value of rank 0 in every process."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Processes()


#: Seconds for the end of another process: after the work, and where a collective failed.
_PATIENCE = 5.0


def launch(
    nproc: int, device: str, function: Callable[..., Any], *arguments: Any, report: Report
) -> Any:
    """Call function(group, *arguments, report=...) in `nproc` processes and return the result of
    rank 0.

    `function` and `arguments` must be picklable. What the others report as "log" is reported here
    too. Raises DiagnosticError where another process failed (QS908 where it was killed), and
    whatever rank 0 raises otherwise.
    """
    if nproc == 1:
        return function(ALONE, *arguments, report=report)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    threads = torch.get_num_threads()
    with scratch_folder() as folder:
        group = (nproc, max(1, threads // nproc), backend, str(folder))
        members = _start(nproc, group, function, arguments, report)
        done = False
        try:
            members.wait_until_ready()
            with interrupt.when_stopped_at_once(members.kill), _joined(0, *group):
                result = function(Processes(0, nproc), *arguments, report=members.report)
            done = True
            return result
        except RuntimeError as error:
            interrupt.check()  # a second signal kills the others, which breaks the connection
            fault = members.fault(_PATIENCE) if is_lost_connection(error) else None
            raise fault or error from (fault.__cause__ if fault else error.__cause__)
        finally:
            torch.set_num_threads(threads)
            members.end(_PATIENCE if done else 0)
            members.pass_on()


def _start(
    nproc: int,
    group: tuple[int, int, str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    report: Report,
) -> Members:
    context = torch.multiprocessing.get_context("spawn")
    processes, readers = [], []
    resource_tracker.ensure_running()  # starting it would unmask signals
    with interrupt.masked():
        for rank in range(1, nproc):
            reader, writer = context.Pipe(duplex=False)
            member = (writer, rank, group, function, arguments)
            # Not a daemon: those may not start loader workers. `take_part` ends with its parent.
            process = context.Process(target=_member, args=member, daemon=False)
            process.start()
            writer.close()
            processes.append(process)
            readers.append(reader)
    return Members(processes, readers, report)


def _member(
    pipe: Connection,
    rank: int,
    group: tuple[int, int, str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    def work(report: Report) -> None:
        with _joined(rank, *group):
            function(Processes(rank, group[0]), *arguments, report=report)

    take_part(pipe, work)


@contextlib.contextmanager
def _joined(rank: int, world: int, threads: int, backend: str, folder: str) -> Iterator[None]:
    torch.set_num_threads(threads)
    store = (Path(folder) / "store").as_uri()
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()
