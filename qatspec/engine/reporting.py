"""Where the events of a run go: plugins, the caller, the log, and the history of the stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch

from qatspec.diag import Diagnostic
from qatspec.engine.history import History
from qatspec.engine.logs import Meter, RunLog
from qatspec.registry import registry
from qatspec.types import StageEvent

OnEvent = Callable[[StageEvent], None]


class Reporter:
    """Passes events on (`qatspec.engine.events` lists them). on_event: the caller's function."""

    def __init__(self, log: RunLog, on_event: OnEvent | None) -> None:
        self._log = log
        self._on_event = on_event
        self._history: History | None = None
        self._meter: Meter | None = None
        self._digest = ""
        self._faults: list[Diagnostic] = []

    def emit(self, kind: str, step: str = "", /, **data: Any) -> None:
        """Pass an event on. step: its stage, "" for the run's own."""
        event = StageEvent(kind=kind, step=step, data=data)
        self._log.record(event, self._digest)
        faults = registry().emit(event)
        if self._on_event:
            self._on_event(event)
        for fault in faults:
            if fault not in self._faults:  # what raises at each step is told once
                self._faults.append(fault)
                self.tell(step, fault)

    def report(self, stage: str, kind: str, data: Mapping[str, Any]) -> None:
        """Pass on what a stage reports."""
        if self._history is not None:
            self._history.record(kind, data)
        resources = self._meter.read(kind, data) if self._meter is not None else None
        if resources is not None:
            self.emit("resources", stage, **resources)
        self.emit(kind, stage, **data)

    def tell(self, stage: str, said: str | Diagnostic) -> None:
        """Pass on a message or a warning."""
        if isinstance(said, str):
            self.emit("log", stage, message=said)
        else:
            self.emit("log", stage, message=said.message, diagnostic=said)

    @contextlib.contextmanager
    def recording(self, history: History, digest: str, device: torch.device) -> Iterator[None]:
        """Inside, what the stage reports is recorded. digest: of its step."""
        self._history, self._digest, self._meter = history, digest, Meter(device)
        try:
            with history:
                yield
        finally:
            self._history, self._digest, self._meter = None, "", None
