"""Data-parallel training: one process a device, gradients averaged by DDP.

The calling process is rank 0, so that events and results need no way back; it starts the others
(spawned, never forked: threads of torch do not survive a fork) and ends them with itself.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from qatspec.diag import Diagnostic, DiagnosticError, PluginFault


@dataclass(frozen=True, slots=True)
class Group:
    """This process among those that train together."""

    rank: int = 0
    world: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """`module` with its gradients averaged over the group in backward. Parameters that a batch
        leaves out count as zero."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=True)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """The mean over the group; not finite anywhere, not finite everywhere."""
        if self.world == 1:
            return value
        value = value.clone()
        dist.all_reduce(value)
        return value / self.world

    def share(self, value: Any) -> Any:
        """Rank 0's value, everywhere."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0)
        return box[0]


ALONE = Group()


def launch(
    nproc: int, device: str, function: Callable[..., Any], *arguments: Any, **on_main: Any
) -> Any:
    """Call function(group, *arguments) in `nproc` processes; gives rank 0's result.

    `function` and `arguments` must be picklable; `on_main` are keywords that rank 0 alone gets
    (callbacks). Raises DiagnosticError QS908 when another process
    died, and whatever rank 0 raises otherwise.
    """
    if nproc == 1:
        return function(ALONE, *arguments, **on_main)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        context = torch.multiprocessing.get_context("spawn")
        meeting = (nproc, max(1, threads // nproc), backend, folder)
        others = [
            context.Process(target=_member, args=(rank, meeting, function, arguments), daemon=True)
            for rank in range(1, nproc)
        ]
        for process in others:
            process.start()
        try:
            with _joined(0, *meeting):
                return function(Group(0, nproc), *arguments, **on_main)
        except RuntimeError as error:
            for process in others:
                process.join(timeout=5)
            raise _fault(others, Path(folder)) or error from error
        finally:
            torch.set_num_threads(threads)
            for process in others:
                process.join(timeout=5)
                if process.is_alive():
                    process.kill()
                    process.join()


def _member(
    rank: int,
    meeting: tuple[int, int, str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    world, *_, folder = meeting
    try:
        with _joined(rank, *meeting):
            function(Group(rank, world), *arguments)
    except (DiagnosticError, PluginFault) as error:
        found = (error.diagnostic(),) if isinstance(error, PluginFault) else error.diagnostics
        (Path(folder) / f"fault-{rank}").write_bytes(pickle.dumps(found))
        sys.exit(1)


@contextlib.contextmanager
def _joined(rank: int, world: int, threads: int, backend: str, folder: str) -> Iterator[None]:
    torch.set_num_threads(threads)
    store = (Path(folder) / "store").as_uri()
    dist.init_process_group(backend, init_method=store, rank=rank, world_size=world)
    try:
        yield
    finally:
        dist.destroy_process_group()


def _fault(others: Sequence[Any], folder: Path) -> DiagnosticError | None:
    """What another process left behind, when it is why rank 0 failed."""
    for left in sorted(folder.glob("fault-*")):
        return DiagnosticError(pickle.loads(left.read_bytes()))
    codes = ", ".join(f"rank {i + 1}: {p.exitcode}" for i, p in enumerate(others) if p.exitcode)
    if not codes:
        return None
    return DiagnosticError(
        Diagnostic(
            code="QS908",
            message=f"a training process died (exit codes: {codes})",
            help="its own message stands above; with exit code -9 the machine ran out of memory: "
            "lower the batch size or --nproc",
        )
    )
