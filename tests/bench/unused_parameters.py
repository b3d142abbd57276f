"""What DDP's search for unused parameters costs, and whether a resumed training has the same bytes
with it and without it (ADR 0103).

    python tests/bench/unused_parameters.py
    python -m tests.bench.unused_parameters search    the search alone, in one process (ADR 0130)

Starts two processes for the times, and three for the bytes: the sum of two numbers has one order.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

STEPS, WRAPPED_ANEW = 8, 4


def deep() -> nn.Module:
    """A net of 200 parameters and little arithmetic."""
    layers = [nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()) for _ in range(100)]
    return nn.Sequential(*layers)


def small() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 64, 3), nn.ReLU(), nn.Conv2d(64, 128, 3), nn.Flatten(), nn.Linear(2048, 500),
        nn.Linear(500, 10),
    )  # fmt: skip


def times(rank: int) -> None:
    models = {search: DistributedDataParallel(deep(), find_unused_parameters=search)
              for search in (True, False)}  # fmt: skip
    taken: dict[bool, list[float]] = {True: [], False: []}
    x = torch.randn(2, 16, 16, 16)
    for _ in range(20):
        for search, model in models.items():
            start = time.process_time()
            model.zero_grad()
            model(x).square().mean().backward()
            taken[search].append(time.process_time() - start)
    if rank == 0:
        for search, seconds in taken.items():
            print(f"search {search}: {statistics.median(seconds) * 1e3:.1f} ms of CPU time a step")


def trained(rank: int, search: bool, resumed: bool) -> Tensor:
    """The parameters after a training. resumed: DDP is built anew in the middle, as a resumed
    training does."""
    model = small()
    wrapped = DistributedDataParallel(model, find_unused_parameters=search)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for step in range(STEPS):
        if resumed and step == WRAPPED_ANEW:
            wrapped = DistributedDataParallel(model, find_unused_parameters=search)
        torch.manual_seed(100 * step + rank)
        optimizer.zero_grad()
        wrapped(torch.randn(4, 3, 8, 8)).square().mean().backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def same_bytes(rank: int) -> None:
    for search in (True, False):
        is_equal = torch.equal(trained(rank, search, False), trained(rank, search, True))
        if rank == 0:
            print(
                f"search {search}: a resumed training of 3 processes has the same bytes: {is_equal}"
            )


def search_alone(rank: int) -> None:
    """Print the milliseconds of the CPU of one search, and of the backward pass after it."""
    from tests.bench.speed import NETS

    x = torch.randn(8, 3, 128, 128)
    for name, net in NETS.items():
        wrapped = DistributedDataParallel(net().train(), find_unused_parameters=True)
        output = wrapped.module(x).square().mean()
        taken = []
        for _ in range(50):
            start = time.process_time()
            wrapped.reducer.prepare_for_backward([output])
            taken.append(time.process_time() - start)
        start = time.process_time()
        output.backward()
        backward = time.process_time() - start
        print(
            f"{name}: {len(list(wrapped.parameters()))} parameters, search "
            f"{statistics.median(taken) * 1e3:.3f} ms, backward {backward * 1e3:.0f} ms"
        )


def work(rank: int, world: int, file: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=world)
    (search_alone, times, same_bytes)[world - 1](rank)
    dist.destroy_process_group()


def main() -> None:
    for world in (1,) if sys.argv[1:] == ["search"] else (2, 3):
        with tempfile.TemporaryDirectory() as folder:
            mp.spawn(work, (world, f"{folder}/store"), nprocs=world)


if __name__ == "__main__":
    main()
