"""Passes the events of a run to the trackers that `qatspec run --track NAME` names."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import import_module

from qatspec.api import StageEvent, hookimpl
from qatspec_trackers.tracker import Tracker

qatspec_api = 2

#: what `--track` calls it -> the module with its class `Tracking`
TRACKERS = {
    "tensorboard": "qatspec_trackers.tensorboard",
    "mlflow": "qatspec_trackers.mlflow",
    "wandb": "qatspec_trackers.wandb",
}
_active: list[Tracker] = []


@hookimpl
def qatspec_stage_event(event: StageEvent) -> None:
    """Pass an event on. A tracker that raises gets no further event of the run, and the others get
    each of them; what it raised is raised when all have had the event."""
    if event.kind == "run_started":
        _active.clear()
        with ExitStack() as calls:
            for name in reversed([name for name in event.data["track"] if name in TRACKERS]):
                calls.callback(_start, name, event)
        return
    with ExitStack() as calls:
        if event.kind in ("run_finished", "step_failed"):
            calls.callback(_active.clear)
        for tracker in reversed(_active):
            calls.callback(_show, tracker, event)


def _start(name: str, event: StageEvent) -> None:
    _active.append(import_module(TRACKERS[name]).Tracking(event.data))
    _show(_active[-1], event)


def _show(tracker: Tracker, event: StageEvent) -> None:
    try:
        tracker.show(event)
    except BaseException:
        _active.remove(tracker)
        raise
