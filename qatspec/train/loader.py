"""Batches over the Dataset protocol, the same whatever the number of workers.

The order of an epoch comes from (seed, epoch), and the randomness of a sample from (seed, epoch,
index). A batch is a data-loader item, so that going on in mid-epoch is a slice of the batch list.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset as TorchDataset

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.registry import registry
from qatspec.types import Dataset


@dataclass(frozen=True, slots=True)
class Batch:
    """images (N, C, H, W) float32; a target and a meta an image."""

    images: Tensor
    targets: list[dict[str, Tensor]]
    metas: list[Mapping[str, Any]]

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`; metas stay."""
        targets = [{k: v.to(device) for k, v in target.items()} for target in self.targets]
        return Batch(self.images.to(device), targets, self.metas)


@dataclass(frozen=True, slots=True)
class Loader:
    """The batches of one data role for one process of `world`."""

    dataset: Dataset
    batch_size: int
    seed: int
    workers: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if len(self.dataset) == 0:
            raise DiagnosticError(
                Diagnostic(
                    code="QS909",
                    message="the data set is empty",
                    help="check the paths and the split in the data section of the spec",
                )
            )

    @property
    def epoch_steps(self) -> int:
        """Whole batches in a shuffled epoch; a set smaller than one batch is one batch."""
        return max(1, len(self.dataset) // (self.batch_size * self.world))

    def shuffled(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """An epoch's batches from number `start` on, in the order of (seed, epoch)."""
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        if len(order) < self.world:
            order = np.resize(order, self.world)
        size = min(self.batch_size, len(order) // self.world)
        firsts = [(step * self.world + self.rank) * size for step in range(self.epoch_steps)]
        return self._load([order[i : i + size].tolist() for i in firsts[start:]], epoch)

    def ordered(self) -> Iterator[Batch]:
        """Every sample once, in the data set's order; the last batch may be smaller."""
        count = len(self.dataset)
        starts = range(0, count, self.batch_size)
        return self._load([list(range(i, min(i + self.batch_size, count))) for i in starts], 0)

    def _load(self, batches: Sequence[list[int]], epoch: int) -> Iterator[Batch]:
        items = _Batches(self.dataset, batches, self.seed, epoch)
        # a generator of its own: the loader draws from it, and never from the training's
        generator = torch.Generator().manual_seed(self.seed)
        for item in DataLoader(
            items, batch_size=None, num_workers=self.workers, generator=generator
        ):
            if isinstance(item, _Broken):
                raise DiagnosticError(item.diagnostics) from RuntimeError(item.trace)
            yield item


@dataclass(frozen=True, slots=True)
class _Broken:
    """What a data set raised, on its way out of a worker process, where exceptions lose their
    fields."""

    diagnostics: tuple[Diagnostic, ...]
    trace: str


class _Batches(TorchDataset[Any]):
    def __init__(
        self, dataset: Dataset, batches: Sequence[list[int]], seed: int, epoch: int
    ) -> None:
        self._dataset, self._batches = dataset, batches
        self._seed, self._epoch = seed, epoch

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> Batch | _Broken:
        try:
            samples = [
                self._dataset.sample(i, np.random.default_rng([self._seed, self._epoch, i]))
                for i in self._batches[number]
            ]
        except DiagnosticError as error:
            return _Broken(error.diagnostics, traceback.format_exc())
        except Exception as error:
            fault = registry().culprit(error)
            if fault is None:
                raise
            return _Broken((fault.diagnostic(),), traceback.format_exc())
        return Batch(
            torch.from_numpy(np.stack([s.image for s in samples])),
            [{k: torch.from_numpy(np.asarray(v)) for k, v in s.target.items()} for s in samples],
            [dict(s.meta) for s in samples],
        )
