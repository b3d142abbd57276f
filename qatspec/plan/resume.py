"""Where an interrupted training resumes, and which finished training a longer one continues."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from qatspec.plan.checkpoints import Header, checkpoint_files, is_intact, read_header
from qatspec.plan.digest import digest
from qatspec.plan.model import Plan, Step
from qatspec.plan.results import Result
from qatspec.source import written
from qatspec.spec import Trainer

#: Schedules whose learning rate at a step does not depend on the length of the training.
_ANY_LENGTH = (
    "constant", "step", "exponential", "plateau", "linear", "low_start", "cosine_restarts",
    "cyclic",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Point:
    """A checkpoint to resume from, and the one that was the best by then; None before the first
    validation, and where the best one is going to be chosen again. Both are intact."""

    at: Header
    best: Header | None


def resume_point(
    result: Result,
    trainer: Trainer,
    evaluation: str,
    allowed: Callable[[Header], bool] = lambda header: True,
) -> Point | None:
    """The newest intact checkpoint in a folder, together with the best one of its training; None
    where there is none.

    A checkpoint whose best one is lost gives way to an earlier one, unless the best one is chosen
    again in any case: where checkpoints were judged by other settings than `evaluation`.
    """
    headers = [h for h in _headers(result) if allowed(h)]
    chosen_again = any(h.evaluation != evaluation for h in headers)
    newest_first = sorted(headers, key=lambda h: (-h.step, h.which != "last"))
    for header in newest_first:
        if not is_intact(header.path):
            continue
        best = _best_of(header, headers, trainer)
        if best is not None or header.best is None or chosen_again:
            return Point(header, best)
    return None


def continuation(plan: Plan, step: Step, results: Iterable[Result]) -> tuple[Result, Point] | None:
    """The training of another length that `step` can continue, and from where.

    Its settings differ in `epochs` (or `steps`) alone, its schedule does not depend on the length,
    and up to that checkpoint both validate at the same steps: the checkpoint then holds what a
    training of the new length would have come to.
    """
    if step.name not in ("float", "qat"):
        return None
    trainer = plan.spec.stages[step.name].trainer or Trainer()
    if trainer.scheduler is not None and trainer.scheduler.type not in _ANY_LENGTH:
        return None
    points: list[tuple[Result, Point]] = []
    for result in results:
        lengths = _lengths(step, result)
        if lengths is None:
            continue
        point = resume_point(result, trainer, step.evaluation, _common(trainer, *lengths))
        if point is not None:
            points.append((result, point))
    return max(points, key=lambda f: (f[1].at.step, f[0].digest), default=None)


def describe(header: Header, trainer: Trainer) -> str:
    """The position where a training resumes, such as "epoch 6" or "epoch 6, step 43"; from 1."""
    if (trainer.steps or header.stage != "calibration") and is_complete(header, trainer):
        return "its end"
    if header.stage == "calibration":
        return f"step {header.step + 1}"
    epoch = f"epoch {header.epoch + 1}"
    return f"{epoch}, step {header.step + 1}" if header.batch else epoch


def is_complete(header: Header, trainer: Trainer) -> bool:
    """Return whether every step of the training is done."""
    if trainer.steps:
        return header.step >= trainer.steps
    return header.epoch >= (trainer.epochs or 0)


def _headers(result: Result) -> Iterator[Header]:
    for path in checkpoint_files(result.folder, result.stage):
        header = read_header(path)
        if header is not None and header.digest == result.digest:
            yield header


def _best_of(header: Header, headers: list[Header], trainer: Trainer) -> Header | None:
    if header.best is None:
        return None
    same = [
        h
        for h in headers
        if h.step <= header.step
        and h.best == header.best
        and h.metrics == header.best_metrics
        and is_validated(h, trainer)
    ]
    earliest_first = sorted(same, key=lambda h: (h.step, h.which != "best"))
    return next((h for h in earliest_first if is_intact(h.path)), None)


def is_validated(header: Header, trainer: Trainer) -> bool:
    """Return whether the metrics of a checkpoint were measured on its own weights."""
    if header.which == "last":
        return not header.unfinished and (
            _is_regular(header, trainer) or is_complete(header, trainer)
        )
    return True


def _is_regular(header: Header, trainer: Trainer) -> bool:
    """Return whether a checkpoint ends an epoch that is validated by trainings of every length."""
    return header.batch == 0 and header.epoch > 0 and header.epoch % trainer.validate_epochs == 0


def _lengths(step: Step, result: Result) -> tuple[str, int, int] | None:
    """("epochs" or "steps", the old length, the new one) where nothing else differs."""
    if not result.keys:
        return None
    units = {f"/stages/{step.name}/trainer/{unit}": unit for unit in ("epochs", "steps")}
    keys = {*step.keys, *result.keys}
    other = [k for k in keys if digest(written(step.keys.get(k))) != digest(result.keys.get(k))]
    if len(other) != 1 or other[0] not in units:
        return None
    old, new = result.keys.get(other[0]), step.keys.get(other[0])
    return (units[other[0]], old, new) if isinstance(old, int) and isinstance(new, int) else None


def _common(trainer: Trainer, unit: str, old: int, new: int) -> Callable[[Header], bool]:
    """Return a predicate: whether trainings of both lengths reach a checkpoint with the same bytes.

    The shorter training always validates at its end, the longer one only at a regular epoch."""
    shorter = min(old, new)

    def reached(header: Header) -> bool:
        done = header.step if unit == "steps" else header.epoch
        return done < shorter or (done == shorter and _is_regular(header, trainer))

    return reached
