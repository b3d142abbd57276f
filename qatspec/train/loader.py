"""Batches over the Dataset protocol, the same whatever the number of workers.

The order of an epoch comes from (seed, epoch), and the randomness of a sample from (seed, epoch,
index). A batch is a data-loader item, so that going on in mid-epoch is a slice of the batch list.
Worker processes of a training stay from epoch to epoch: what they are asked for names its epoch.

An example that cannot be read is reported and skipped: the next readable one takes its
place in training; in evaluation nothing does, so that no picture counts twice.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset as TorchDataset, Sampler, get_worker_info

from qatspec.diag import Diagnostic, DiagnosticError, PluginFault
from qatspec.diag.codes import QS909
from qatspec.language import default
from qatspec.registry import registry
from qatspec.registry.recorder import judging
from qatspec.train.byte_images import ByteImages
from qatspec.train.protocol import (
    check_equal_shapes,
    check_sample,
    target_tensor,
)
from qatspec.train.samples import ONE_PICTURE, AnySample, Inputs, tensors_of
from qatspec.train.workers import watched
from qatspec.types import Dataset, DatasetDef


@dataclass(frozen=True, slots=True)
class Batch:
    """loaded: a tensor for each argument of the model's forward, or pictures that are bytes; a
    target and a meta an example. number: of the batch among those that are loaded, of which some
    may be unreadable."""

    loaded: tuple[Tensor | ByteImages, ...]
    targets: list[dict[str, Tensor]]
    metas: list[Mapping[str, Any]]
    number: int = 0

    @property
    def inputs(self) -> tuple[Tensor, ...]:
        """A tensor for each argument of the model's forward: images (N, C, H, W) float32 where it
        takes pictures."""
        return tuple(x.normalized() if isinstance(x, ByteImages) else x for x in self.loaded)

    def to(self, device: torch.device) -> Batch:
        """The same batch on `device`, where pictures that travel as bytes are normalised; metas
        stay."""
        moved = self._mapped(lambda value: value.to(device, non_blocking=True))
        return replace(moved, loaded=moved.inputs)

    def pin_memory(self) -> Batch:
        """The same batch in pinned memory. torch's data loader calls this method."""
        return self._mapped(Tensor.pin_memory)

    def _mapped(self, change: Callable[[Tensor], Tensor]) -> Batch:
        targets = [{k: change(v) for k, v in target.items()} for target in self.targets]
        loaded = (x.mapped(change) if isinstance(x, ByteImages) else change(x) for x in self.loaded)
        return replace(self, loaded=tuple(loaded), targets=targets)

    def __len__(self) -> int:
        """The number of examples."""
        return len(self.metas)


@dataclass(frozen=True, slots=True)
class Loader:
    """The batches of one data role for one process of `world`.

    skip_broken  an example whose sample() raises DiagnosticError is left out; False: that is
                 raised. It is raised as well where no example at all can be read.
    warn         told of each example that is left out.
    definition   the record of the data set, whose `metric` chooses the best checkpoint.
    judges       the examples are for the validation alone.
    inputs       the model's inputs by name, in the order of forward.
    pinned       batches are in pinned memory, from which a GPU copies while the program goes on.
    """

    dataset: Dataset
    batch_size: int
    seed: int
    workers: int = default("data_role", "workers")
    rank: int = 0
    world: int = 1
    skip_broken: bool = True
    warn: Callable[[Diagnostic], None] = lambda diagnostic: None
    definition: DatasetDef | None = None
    judges: bool = False
    inputs: Inputs = field(default_factory=lambda: ONE_PICTURE)
    pinned: bool = False
    _kept: list[DataLoader[Any]] = field(
        default_factory=list, init=False, compare=False, repr=False
    )

    def __post_init__(self) -> None:
        if len(self.dataset) == 0:
            raise QS909.error(
                "the data set is empty",
                help="check the paths and the split in the data section of the spec",
            )

    @property
    def epoch_steps(self) -> int:
        """Whole batches in a shuffled epoch; a set smaller than one batch is one batch."""
        return max(1, len(self.dataset) // (self.batch_size * self.world))

    def shuffled(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """An epoch's batches from number `start` on, in the order of (seed, epoch)."""
        if begin := getattr(self.dataset, "begin_epoch", None):
            begin(epoch)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.dataset))
        if len(order) < self.world:
            order = np.resize(order, self.world)
        size = min(self.batch_size, len(order) // self.world)
        firsts = [(step * self.world + self.rank) * size for step in range(self.epoch_steps)]
        batches = [order[i : i + size].tolist() for i in firsts[start:]]
        return self._load(batches, epoch, replacing=True)

    def ordered(self, part: int = 0, parts: int = 1) -> Iterator[Batch]:
        """Every sample once, in the data set's order; the last batch may be smaller. parts: of so
        many processes, number `part` gets every parts-th batch."""
        count = len(self.dataset)
        starts = range(0, count, self.batch_size)
        batches = [list(range(i, min(i + self.batch_size, count))) for i in starts]
        return self._load(batches[part::parts], 0, replacing=False, demanding=parts == 1)

    def _load(
        self, batches: Sequence[list[int]], epoch: int, *, replacing: bool, demanding: bool = True
    ) -> Iterator[Batch]:
        """demanding: raise where no example at all can be read."""
        asked = [_Asked(epoch, number, indices) for number, indices in enumerate(batches)]
        yielded, warned = False, set[Diagnostic]()
        for item in watched(self._loader(asked, replacing)):
            for broken in item.left_out:
                for diagnostic in broken.diagnostics:
                    self.warn(_as_warning(diagnostic))
            for diagnostic in item.warnings:
                if diagnostic not in warned:
                    warned.add(diagnostic)
                    self.warn(diagnostic)
            if item.batch is not None:
                yielded = True
                yield item.batch
            if item.fatal is not None:
                raise DiagnosticError(item.fatal.diagnostics) from RuntimeError(item.fatal.trace)
        if not yielded and batches and demanding:
            raise DiagnosticError(item.left_out[-1].diagnostics)

    def close(self) -> None:
        """End the worker processes of the training, which would otherwise end with this record."""
        self._kept.clear()

    def _loader(self, asked: Sequence[_Asked], training: bool) -> DataLoader[Any]:
        """A data loader of what is asked for. A training gets the same one in each epoch."""
        keeps = training and self.workers > 0
        if keeps and self._kept:
            cast(_Order, self._kept[0].sampler).asked = asked
            return self._kept[0]
        loader = DataLoader(
            _Batches(self, replacing=training),
            batch_size=None,
            sampler=_Order(asked),
            num_workers=self.workers,
            # of its own: the loader draws from it, and never from the training's
            generator=torch.Generator().manual_seed(self.seed),
            pin_memory=self.pinned,
            persistent_workers=keeps,
            # In a spawned process the default is to spawn, which would pickle the data set.
            multiprocessing_context="fork" if self.workers else None,
        )
        if keeps:
            self._kept.append(loader)
        return loader


def _as_warning(diagnostic: Diagnostic) -> Diagnostic:
    ending = "the run continues without it, unless the spec says `broken: error`"
    help_ = f"{diagnostic.help}; {ending}" if diagnostic.help else ending
    return replace(diagnostic, severity="warning", help=help_)


@dataclass(frozen=True, slots=True)
class _Broken:
    """What a data set raised, on its way out of a worker process, where exceptions lose their
    fields."""

    diagnostics: tuple[Diagnostic, ...]
    trace: str
    fault: bool = False  # of the data set's code: never to be passed over


@dataclass(frozen=True, slots=True)
class _Item:
    """A batch, unless nothing of it can be read or something is fatal, what is missing, and what
    the data set warns of."""

    batch: Batch | None = None
    warnings: tuple[Diagnostic, ...] = ()
    left_out: tuple[_Broken, ...] = ()
    fatal: _Broken | None = None

    def pin_memory(self) -> _Item:
        return replace(self, batch=self.batch.pin_memory()) if self.batch else self


@dataclass(frozen=True, slots=True)
class _Asked:
    """A batch that is to be loaded: examples of an epoch by their indices."""

    epoch: int
    number: int
    indices: Sequence[int]


class _Order(Sampler[_Asked]):
    """The batches of the next pass over a data loader, in order."""

    def __init__(self, asked: Sequence[_Asked]) -> None:
        self.asked = asked

    def __len__(self) -> int:
        return len(self.asked)

    def __iter__(self) -> Iterator[_Asked]:
        return iter(self.asked)


class _Batches(TorchDataset[Any]):
    """replacing: whether another example replaces one that cannot be read: in training."""

    def __init__(self, loader: Loader, replacing: bool) -> None:
        self._dataset, self._definition = loader.dataset, loader.definition
        self._seed, self._skipping = loader.seed, loader.skip_broken
        self._epoch, self._replacing = -1, replacing
        self._judges, self._inputs = loader.judges, loader.inputs

    def __getitem__(self, asked: _Asked) -> _Item:
        self._enter(asked.epoch)
        samples: list[AnySample] = []
        broken: list[_Broken] = []
        for index in asked.indices:
            read = self._first_readable(index, broken)
            if isinstance(read, _Broken):
                return _Item(left_out=tuple(broken), fatal=read)
            if read is not None:
                samples.append(read)
        try:
            check_equal_shapes(self._dataset, samples, self._definition, self._inputs)
            batch = _collate(samples, self._inputs, asked.number) if samples else None
        except PluginFault as fault:
            fatal = _Broken((fault.diagnostic(),), traceback.format_exc(), fault=True)
            return _Item(left_out=tuple(broken), fatal=fatal)
        warnings = dict.fromkeys(w for sample in samples for w in sample.warnings)
        return _Item(batch, tuple(warnings), tuple(broken))

    def _enter(self, epoch: int) -> None:
        """Begin an epoch in a worker process, which has a copy of the data set; the other copy was
        told in `shuffled`."""
        if epoch == self._epoch:
            return
        self._epoch = epoch
        begin = getattr(self._dataset, "begin_epoch", None)
        if begin is not None and self._replacing and get_worker_info() is not None:
            begin(epoch)

    def _first_readable(self, index: int, broken: list[_Broken]) -> AnySample | _Broken | None:
        """The example at `index`, or where that is broken, the next one (when replacing). Broken
        ones on the way are appended to `broken`; what is fatal is returned."""
        count = len(self._dataset)
        for step in range(count if self._replacing else 1):
            sample = self._sample((index + step) % count)
            if not isinstance(sample, _Broken):
                return sample
            if sample.fault or not self._skipping:
                return sample
            broken.append(sample)
        return broken.pop() if self._replacing else None

    def _sample(self, index: int) -> AnySample | _Broken:
        rng = np.random.default_rng([self._seed, self._epoch, index])
        try:
            with judging(only=self._judges):
                sample = self._dataset.sample(index, rng)
            return check_sample(self._dataset, sample, self._definition, self._inputs)
        except DiagnosticError as error:
            return _Broken(error.diagnostics, traceback.format_exc())
        except PluginFault as error:
            return _Broken((error.diagnostic(),), traceback.format_exc(), fault=True)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a GeneratorExit of a plugin would end a worker
            fault = registry().plugin_fault(error)
            if fault is None:
                raise
            return _Broken((fault.diagnostic(),), traceback.format_exc(), fault=True)


def _collate(samples: Sequence[AnySample], inputs: Inputs, number: int) -> Batch:
    return Batch(
        tensors_of(samples, inputs),
        [{k: target_tensor(v) for k, v in s.target.items()} for s in samples],
        [dict(s.meta) for s in samples],
        number,
    )
