"""Data-parallel training: one process a device, gradients averaged by DDP.

A launcher (torchrun, or `qatspec run --nproc`, which uses torch's own) starts as many processes as
there are devices, and each of them runs the same command. Rank 0 walks through the plan, and alone
locks, reads and writes the work directory. The other ranks wait until it asks for something to be
computed together. They meet in a key-value store of torch, and for the time of each such
computation in a process group: where no group is joined, nothing waits for another process.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from qatspec.process import interrupt, scratch_folder
from qatspec.train.faults import Fault, fault_of
from qatspec.train.process import pick_device

Report = Callable[[str, Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Processes:
    """The processes that compute together, from the view of one of them.

    local_rank   number of this process on its machine.
    scratch      a folder of this process alone, None where it may use the work directory: on the
                 machine of rank 0.
    remarks      what this process has to report, unless it is rank 0; `collect` passes it on.
    """

    rank: int = 0
    world: int = 1
    local_rank: int = 0
    scratch: Path | None = None
    remarks: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Return `module` with gradients averaged over the processes in backward. A parameter that
        a batch does not use contributes zero."""
        if self.world == 1:
            return module
        return DistributedDataParallel(module, find_unused_parameters=True)

    def apart(self, wrapped: nn.Module) -> contextlib.AbstractContextManager[None]:
        """Inside, backward of a wrapped module adds to the gradients of this process alone."""
        if isinstance(wrapped, DistributedDataParallel):
            return cast("contextlib.AbstractContextManager[None]", wrapped.no_sync())
        return contextlib.nullcontext()

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

    def from_main(self, make: Callable[[], Any]) -> Any:
        """Return in every process what `make` returns in rank 0; the others do not call it."""
        return self.share(make() if self.is_main else None)

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, in every process."""
        if self.world == 1:
            return [value]
        every: list[Any] = [None] * self.world
        dist.all_gather_object(every, value)
        return every

    def to_main(self, value: Any) -> list[Any]:
        """Return the values of all processes, by rank, in rank 0; nothing in the others."""
        if self.world == 1:
            return [value]
        every: list[Any] = [None] * self.world if self.is_main else []
        dist.gather_object(value, every if self.is_main else None, dst=0)
        return every

    @torch.no_grad()
    def agree(self, model: nn.Module) -> None:
        """Give `model` the tensors that it has in rank 0: parameters and buffers."""
        if self.world > 1:
            for value in model.state_dict(keep_vars=True).values():
                dist.broadcast(value.detach(), src=0)

    def stopping(self, device: torch.device) -> bool:
        """Return whether any process has received a signal; all stop then."""
        if self.world > 1:
            asked = torch.tensor(float(interrupt.requested()), device=device)
            if float(self.mean(asked)) > 0:
                interrupt.request()
        return interrupt.requested()

    def collect(self, report: Report) -> None:
        """Report in rank 0 what all processes have to report since the last call."""
        for remarks in self.gather(list(self.remarks))[1:] if self.world > 1 else ():
            for kind, data in remarks if self.is_main else ():
                report(kind, data)
        self.remarks.clear()


ALONE = Processes()

#: Seconds that a process may take to say why it ends, and to answer that. A loaded machine is slow.
PATIENCE = 30.0
#: Seconds between the end of a connection and what the process at its other end tells.
_WORDS = 5.0
_POLL = 0.05
_END = b"end"
#: Exit code of a process that ends because another one did.
LOST = 75
#: A process that ends breaks its connections at once; this is for one that hangs.
_TIMEOUT = timedelta(hours=2)


class LostProcessError(RuntimeError):
    """Another process ended without saying why."""


@dataclass(slots=True)
class Ranks:
    """The processes that a launcher started, from the view of one of them."""

    rank: int
    world: int
    local_rank: int
    device: str
    store: Store
    scratch: Path | None = None
    _number: int = 0

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def together(self, function: Callable[..., Any], *arguments: Any, report: Report) -> Any:
        """Call function(group, *arguments, report=...) in every process and return the result of
        rank 0, which calls this method while the others are in `serve`.

        `function` and `arguments` must be picklable. What the others report as "log" is reported
        here too, and what several processes log only once.

        Raises what rank 0 raises; DiagnosticError where another process failed; LostProcessError
        where one ended without saying why.
        """
        self._number += 1
        self._put(f"work/{self._number}", pickle.dumps((function, arguments)))
        try:
            return self._perform(function, arguments, _once(report))
        except RuntimeError as error:
            if not is_lost_connection(error):
                raise
            raise self._fault() from error

    def serve(self) -> int:
        """Take part in what rank 0 asks for until it ends, in any other rank. Returns the exit code
        of this process. What it raises is raised by rank 0, or here where rank 0 does not answer.
        """
        try:
            return self._serve()
        finally:
            with contextlib.suppress(dist.DistError):
                self.store.add("gone", 1)

    def _serve(self) -> int:
        try:
            while (asked := self._wait(f"work/{self._number + 1}")) != _END:
                self._number += 1
                function, arguments = pickle.loads(asked)
                self._perform(function, arguments, None)
        except interrupt.Interrupted as error:
            self._heard("end")
            return error.exit_code
        except BaseException as error:
            if is_lost_connection(error):
                self._heard("end")
                return LOST
            with contextlib.suppress(dist.DistError):
                self._put(f"fault/{self.rank}", pickle.dumps(fault_of(error)))
            _release(error)
            if not self._heard("heard"):
                raise
            self._heard("end")
            return 1
        return 0

    def end(self) -> None:
        """Tell the other ranks that nothing more is asked for, and wait until they know: the store
        may end with this process."""
        with contextlib.suppress(dist.DistError):
            self._put("end", _END)
            self._put(f"work/{self._number + 1}", _END)
            deadline = time.monotonic() + PATIENCE
            while self.store.add("gone", 0) < self.world - 1 and time.monotonic() < deadline:
                time.sleep(_POLL)

    def _perform(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], report: Report | None
    ) -> Any:
        with _joined(self, self._number) as group:

            def remark(kind: str, data: Mapping[str, Any]) -> None:
                if kind == "log":  # rank 0 reports the progress of all
                    group.remarks.append((kind, dict(data)))

            result = function(group, *arguments, report=report or remark)
            group.collect(report or remark)
            return result

    def _put(self, key: str, value: bytes) -> None:
        self.store.set(key, value)  # type: ignore[arg-type]  # torch's annotation lacks bytes

    def _wait(self, key: str) -> bytes:
        """The value of `key`, when rank 0 has set it."""
        while not self.store.check([key]):
            interrupt.check()
            time.sleep(_POLL)
        return bytes(self.store.get(key))

    def _heard(self, key: str) -> bool:
        """Return whether rank 0 sets `key` before patience runs out."""
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(dist.DistError):
            while time.monotonic() < deadline:
                if self.store.check([key]):
                    return True
                time.sleep(_POLL)
        return False

    def _fault(self) -> Exception:
        """Why another process ended before its work was done. The launcher, which stops this one
        as well then, is not obeyed before that is known."""
        keys = [f"fault/{rank}" for rank in range(1, self.world)]
        deadline = time.monotonic() + _WORDS
        with interrupt.deferred(), contextlib.suppress(dist.DistError):
            while time.monotonic() < deadline:
                for rank, key in enumerate(keys, 1):
                    if self.store.check([key]):
                        fault: Fault = pickle.loads(self.store.get(key))
                        self._put("heard", _END)
                        return fault.of_rank(rank)
                if interrupt.requested():
                    break
                time.sleep(_POLL)
        return LostProcessError("another process of this training ended")


def launched() -> bool:
    """Return whether a launcher started this process as one of several."""
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


@contextlib.contextmanager
def ranks(device: str) -> Iterator[Ranks]:
    """Meet the other processes of the launcher: RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT and
    LOCAL_RANK in the environment (without the last one, the rank) say where. device: of `--device`.

    Raises DiagnosticError QS907.
    """
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    local_rank = int(os.environ.get("LOCAL_RANK", rank))
    chosen = pick_device(device, local_rank).type
    if "TORCHELASTIC_RUN_ID" in os.environ:
        threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    with contextlib.ExitStack() as stack:
        scratch = None if rank == local_rank else stack.enter_context(scratch_folder())
        store, _, _ = next(rendezvous("env://"))
        met = Ranks(rank, world, local_rank, chosen, PrefixStore("qatspec", store), scratch)
        try:
            yield met
        finally:
            if met.is_main:
                met.end()


@contextlib.contextmanager
def _joined(ranks: Ranks, number: int) -> Iterator[Processes]:
    backend = "nccl" if ranks.device == "cuda" else "gloo"
    store = PrefixStore(f"group/{number}", ranks.store)
    dist.init_process_group(
        backend, store=store, rank=ranks.rank, world_size=ranks.world, timeout=_TIMEOUT
    )
    try:
        yield Processes(ranks.rank, ranks.world, ranks.local_rank, ranks.scratch)
    finally:
        dist.destroy_process_group()


def _once(report: Report) -> Report:
    """`report`, but what several processes log only once."""
    logged: set[Any] = set()

    def reporting(kind: str, data: Mapping[str, Any]) -> None:
        if kind == "log":
            message = data.get("diagnostic", data["message"])
            if message in logged:
                return
            logged.add(message)
        report(kind, data)

    return reporting


def is_lost_connection(error: BaseException) -> bool:
    """Return whether a collective failed because another process ended."""
    return isinstance(error, dist.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error).lower()
    )


def _release(error: BaseException | None) -> None:
    """Free what the frames of an error hold, such as the connections to other processes, which
    learn by that that this one has failed."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
    gc.collect()


def _end_with_parent(parent: int) -> None:
    """End with the launcher's agent: a killed agent ends no process by itself."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)
