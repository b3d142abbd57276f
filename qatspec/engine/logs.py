"""What a clock measures while a plan runs, in `<workdir>/logs`: lines for people in `run.log`, and
`<stage>-times.jsonl`, one JSON object a line:

    {"time", "digest", "step", "images_per_second", "memory_bytes", "device_memory_bytes"}

Both are appended to by every run. Beside them, `<stage>-details.json` holds what the data set tells
of each class at the stage's best validation (qatspec.plan.details). No result is made of them, and
no failure to write them ends a training: a full disk is reported where a checkpoint cannot be
written.
"""

from __future__ import annotations

import contextlib
import json
import logging
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from qatspec.plan.details import keep_details
from qatspec.source import hide
from qatspec.types import StageEvent

FOLDER = "logs"
#: Least seconds between two readings of throughput and memory.
INTERVAL = 10.0


def times_path(workdir: Path, stage: str) -> Path:
    """The file of a stage's throughput and memory."""
    return workdir / FOLDER / f"{stage}-times.jsonl"


class RunLog:
    """Writes events to `run.log`, and resources to the files of their stages."""

    def __init__(self, workdir: Path) -> None:
        self._workdir = workdir
        self._log = _appender(workdir / FOLDER / "run.log", "%(asctime)s %(levelname)s %(message)s")
        self._times: dict[str, _Appender] = {}

    def record(self, event: StageEvent, digest: str) -> None:
        """Record an event. digest: of its step, "" outside of one."""
        if event.kind == "resources":
            moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            entry = {"time": moment, "digest": digest, **event.data}
            if event.step not in self._times:
                self._times[event.step] = _appender(times_path(self._workdir, event.step))
            self._times[event.step].emit(_record(logging.INFO, json.dumps(entry)))
        if event.kind == "details" and "/" not in event.step:  # a candidate's are in its own folder
            # neither a full disk nor a data set's own types are a reason to end a training
            with contextlib.suppress(OSError, TypeError, ValueError):
                keep_details(self._workdir, event.step, digest, event.data)
        if event.kind in _LINES:
            level = _LEVELS.get(event.kind, logging.INFO)
            diagnostic = event.data.get("diagnostic")
            if diagnostic is not None and diagnostic.severity == "warning":
                level = logging.WARNING
            words = hide(_LINES[event.kind](event.data)).rstrip()
            self._log.emit(_record(level, f"{event.step}: {words}" if event.step else words))

    def __enter__(self) -> RunLog:
        return self

    def __exit__(self, *_: object) -> None:
        for handler in (self._log, *self._times.values()):
            handler.close()


class Meter:
    """Throughput and memory of a training, read every few seconds."""

    def __init__(self, device: torch.device, clock: Callable[[], float] = time.monotonic) -> None:
        self._device = device
        self._clock = clock
        self._since: float | None = None
        self._images = self._step = 0

    def read(self, kind: str, data: Mapping[str, Any]) -> Mapping[str, Any] | None:
        """Count an event of a stage. Returns the data of an event "resources" where one is due:
        every few seconds, and before a validation, whose time does not count."""
        if kind != "progress":
            return None
        now = self._clock()
        is_step = data["unit"] == "step"
        if is_step and self._since is None:
            self._since = now  # when the first step began is not known: it does not count
            return None
        if is_step:
            self._images, self._step = self._images + data["images"], data["done"]
        seconds = now - self._since if self._since is not None else 0.0
        due = seconds >= INTERVAL if is_step else self._images > 0
        resources = self._resources(seconds) if due else None
        if due:
            self._images, self._since = 0, now
        if not is_step:
            self._since = None
        return resources

    def _resources(self, seconds: float) -> Mapping[str, Any]:
        unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
        on_gpu = self._device.type == "cuda"
        return {
            "step": self._step,
            "images_per_second": round(self._images / seconds, 3) if seconds else None,
            "memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit,
            "device_memory_bytes": torch.cuda.max_memory_allocated(self._device)
            if on_gpu
            else None,
        }


class _Appender(logging.FileHandler):
    """Appends lines to a file that is made with the first one. Errors are ignored."""

    def emit(self, record: logging.LogRecord) -> None:
        with contextlib.suppress(OSError):
            Path(self.baseFilename).parent.mkdir(exist_ok=True)
            super().emit(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        pass


def _appender(path: Path, form: str = "%(message)s") -> _Appender:
    handler = _Appender(path, encoding="utf-8", errors="backslashreplace", delay=True)
    formatter = logging.Formatter(form, datefmt="%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    return handler


def _record(level: int, message: str) -> logging.LogRecord:
    return logging.LogRecord("qatspec", level, "", 0, message, None, None)


def _numbers(values: Mapping[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def _reason(data: Mapping[str, Any]) -> str:
    diagnostic = data.get("diagnostic")
    if diagnostic is None:
        return str(data["message"])
    advice = f" (help: {diagnostic.help})" if diagnostic.help else ""
    return f"{diagnostic.code} {diagnostic.message}{advice}"


#: kind of event -> its line
_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "run_started": lambda data: f"run of {data['spec']}: {', '.join(data['steps'])}",
    "rehearsal": lambda data: f"tried on a batch before training: {', '.join(data['stages'])}",
    "step_started": lambda data: (
        f"starts, resumed from step {data['resumed_from']}" if data["resumed_from"] else "starts"
    ),
    "step_cached": lambda data: f"is cached  {_numbers(data['metrics'])}",
    "metrics": lambda data: f"validated  {_numbers(data)}",
    "resources": lambda data: _numbers(data),
    "log": _reason,
    "advice": lambda data: f"advice: {data['advice']} ({data['place']}): {data['reason']}",
    "step_finished": lambda data: f"is finished  {_numbers(data['metrics'])}",
    "step_failed": lambda data: f"{data['status']}: {data['error']}",
    "run_finished": lambda data: f"finished: {data['summary']}",
}
_LEVELS = {"step_failed": logging.ERROR}
