"""Choosing the best of the kept checkpoints, and the identity of what was chosen."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from qatspec.plan.checkpoints import SUFFIX, checkpoint_path, is_intact, sha256_of
from qatspec.train.checkpoint import Checkpoint, load, load_weights, save
from qatspec.train.distributed import ALONE, Processes

Metrics = Mapping[str, float]


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """The sha256 over names, dtypes, shapes and values of a state dict, whatever its order."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def gives(folder: Path, stage: str) -> dict[str, str]:
    """What a later stage may start from: "best" and "last" -> the sha256 of its weights."""
    best, last = (checkpoint_path(folder, stage, which) for which in ("best", "last"))
    chosen = weights_sha256(load(best).weights)
    if is_intact(last) and sha256_of(last) == sha256_of(best):
        return {"best": chosen, "last": chosen}
    return {"best": chosen, "last": weights_sha256(load(last).weights)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Judging:
    """The evaluation of kept checkpoints.

    model       takes their weights, on the device that validates.
    validate    metrics of the model as it stands.
    metric      the key of its result that chooses the best checkpoint.
    march, digests: what the rewritten checkpoints say of themselves.
    """

    stage: str
    model: nn.Module
    validate: Callable[[], Metrics]
    metric: str
    march: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    group: Processes = ALONE
    report: Callable[[str, Mapping[str, Any]], None] = lambda kind, data: None


def judge_again(judging: Judging, kept: Path, folder: Path) -> tuple[Metrics, list[Path]]:
    """Validate every checkpoint that is intact in `kept`, in the order of training, and write them
    into `folder` as a training with these settings would have: each with its own metrics, and the
    first of the highest metric as `best`.

    Every process of the group calls it; rank 0 reads and writes.

    Returns the metrics of the best one, and every checkpoint's path, best first."""
    stage, group = judging.stage, judging.group
    best: Checkpoint | None = None
    written: list[Path] = []
    known = _kept(kept, stage) if group.is_main else None
    while (one := group.from_main(lambda: next(known, None) if known else None)) is not None:
        names, checkpoint = one
        load_weights(
            judging.model, checkpoint.weights, source=checkpoint_path(kept, stage, names[0])
        )
        metrics = judging.validate()
        epoch = {"epoch": checkpoint.epoch, "step": checkpoint.step}
        judging.report("metrics", {**epoch, **metrics})
        judged = replace(checkpoint, metrics=metrics, march=judging.march, digests=judging.digests)
        if best is None or metrics[judging.metric] > best.metrics[judging.metric]:
            best, names = judged, (*names, "best")
        judged = replace(judged, best=best.metrics[judging.metric], best_metrics=best.metrics)
        paths = [checkpoint_path(folder, stage, name) for name in names]
        if group.is_main:
            save(judged, *paths)
        written = [*(p for p in written if p not in paths), *paths]
    assert best is not None, "a finished stage has its last checkpoint"
    first = checkpoint_path(folder, stage, "best")
    return best.metrics, [first, *sorted(p for p in written if p != first)]


def _kept(folder: Path, stage: str) -> Iterator[tuple[tuple[str, ...], Checkpoint]]:
    """(names, checkpoint) of what is intact, in the order of training. `last` is the end of the
    training: its name goes to the checkpoint of an epoch or step where that is kept too."""
    last = checkpoint_path(folder, stage, "last")
    end = load(last) if is_intact(last) else None
    prefix = f"{stage}-checkpoint-"
    names = [
        path.name.removeprefix(prefix).removesuffix(SUFFIX)
        for path in folder.glob(f"{prefix}*-*{SUFFIX}")
    ]
    for name in sorted(names, key=_order):
        if is_intact(path := checkpoint_path(folder, stage, name)):
            checkpoint = load(path)
            ends = end is not None and end.step == checkpoint.step
            yield (name, "last") if ends else (name,), checkpoint
            end = None if ends else end
    if end is not None:
        yield ("last",), end


def _order(name: str) -> tuple[str, int]:
    """epoch-N by number, then the one step-N of a training that ends within an epoch."""
    kind, _, number = name.partition("-")
    return kind, int(number) if number.isdecimal() else 0
