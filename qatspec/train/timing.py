"""Where the time of a training goes."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch

#: What a training does, in the order of a step; "eval" are the validations between steps.
PARTS = ("data", "forward", "backward", "optimizer", "sync", "eval")

T = TypeVar("T")


class Stopwatch:
    """Seconds of each part of a training, if they are wanted.

    Kernels of a GPU run behind the program: where times are taken, it waits for them at the end of
    each part, which makes the training itself slower.
    """

    def __init__(self, device: torch.device, wanted: bool) -> None:
        self._waits = wanted and device.type == "cuda"
        self._wanted = wanted
        self._device = device
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.steps = 0

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to a part."""
        if not self._wanted:
            yield
            return
        started = time.perf_counter()
        try:
            yield
        finally:
            if self._waits:
                torch.cuda.synchronize(self._device)
            self.seconds[name] += time.perf_counter() - started

    def waiting_for(self, items: Iterable[T]) -> Iterator[T]:
        """`items`, with the time until each arrives added to "data"."""
        iterator = iter(items)
        while True:
            with self.part("data"):
                item = next(iterator, _END)
            if isinstance(item, _End):
                return
            yield item


class _End:
    pass


_END = _End()
