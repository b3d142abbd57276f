"""Passes the events of a run to the trackers that `qatspec run --track NAME` names."""

from __future__ import annotations

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
    """Pass an event on. A tracker that raises gets no further event of the run."""
    if event.kind == "run_started":
        names = [name for name in event.data["track"] if name in TRACKERS]
        _active[:] = [import_module(TRACKERS[name]).Tracking(event.data) for name in names]
    for tracker in tuple(_active):
        _show(tracker, event)
    if event.kind in ("run_finished", "step_failed"):
        _active.clear()


def _show(tracker: Tracker, event: StageEvent) -> None:
    try:
        tracker.show(event)
    except BaseException:
        _active.remove(tracker)
        raise
