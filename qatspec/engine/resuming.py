"""Puts the checkpoints of an interrupted training in place, so that it resumes from `last`."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from qatspec.plan import Step
from qatspec.plan.checkpoints import (
    Header,
    checkpoint_files,
    checkpoint_path,
    is_intact,
    known_digests,
    read_header,
    sha256_of,
)
from qatspec.plan.history import history_path
from qatspec.plan.results import Result
from qatspec.plan.resume import Point, is_validated
from qatspec.spec import Trainer
from qatspec.train.checkpoint import load, save, save_bytes, write_sidecar
from qatspec.train.files import write_bytes


def lay_out(folder: Path, step: Step, point: Point, trainer: Trainer) -> None:
    """Give the checkpoint to resume from, and the best one by then, every name that they have in a
    training that was not interrupted. Raises DiagnosticError QS903."""
    for path in checkpoint_files(folder, step.name):
        if not known_digests(path) and is_intact(path):
            write_sidecar(path, [sha256_of(path)])
    names = ["last"]
    if point.best is not None:
        _copy(point.best.path, checkpoint_path(folder, step.name, "best"))
    if point.at.best is not None and is_validated(point.at, trainer):
        names.append(_own_name(point.at))
    for name in reversed(names):  # `last` is written last, as in training
        _copy(point.at.path, checkpoint_path(folder, step.name, name))


def continue_from(folder: Path, step: Step, source: Result, point: Point, trainer: Trainer) -> None:
    """Copy the checkpoints of a training of another length up to `point`, as checkpoints of `step`.
    Raises DiagnosticError QS903."""
    for path in checkpoint_files(source.folder, step.name):
        header = read_header(path)
        if header is None or header.digest != source.digest or header.step > point.at.step:
            continue
        if header.which not in ("best", "last") and is_intact(path):
            _adopt(path, checkpoint_path(folder, step.name, header.which), step)
    if point.best is not None:
        _adopt(point.best.path, checkpoint_path(folder, step.name, "best"), step)
    with contextlib.suppress(OSError):  # the results of an earlier version have none
        history = history_path(source.folder, step.name).read_bytes()
        write_bytes(history_path(folder, step.name), history)
    last = checkpoint_path(folder, step.name, "last")
    _adopt(point.at.path, last, step)
    best = checkpoint_path(folder, step.name, "best")
    here = Point(
        replace(point.at, path=last), None if point.best is None else replace(point.best, path=best)
    )
    lay_out(folder, step, here, trainer)


def _own_name(header: Header) -> str:
    return f"step-{header.step}" if header.batch else f"epoch-{header.epoch:04d}"


def _copy(source: Path, target: Path) -> None:
    digest = sha256_of(source)
    if source == target or (known_digests(target) == [digest] and is_intact(target)):
        return
    save_bytes(source.read_bytes(), target)


def _adopt(source: Path, target: Path, step: Step) -> None:
    save(replace(load(source), digests={"step": step.digest}), target)
