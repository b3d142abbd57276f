"""Where the events of a run go: plugins, the caller, the log, and the history of the stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from qatspec.diag import Diagnostic
from qatspec.engine.advice import Adviser
from qatspec.engine.history import History
from qatspec.engine.logs import Meter, RunLog
from qatspec.registry import registry
from qatspec.spec import Spec
from qatspec.spec.advice import Advice
from qatspec.types import StageEvent

OnEvent = Callable[[StageEvent], None]


class Reporter:
    """Passes events on (`qatspec.engine.events` lists them).

    on_event    the caller's function.
    to_plugins  False: the caller passes the events to the plugins.
    """

    def __init__(self, log: RunLog, on_event: OnEvent | None, *, to_plugins: bool = True) -> None:
        self._log = log
        self._on_event = on_event
        self._to_plugins = to_plugins
        self._history: History | None = None
        self._meter: Meter | None = None
        self._digest = ""
        self._faults: list[Diagnostic] = []
        self._adviser: Adviser | None = None

    def emit(self, kind: str, step: str = "", /, **data: Any) -> None:
        """Pass an event on. step: its stage, "" for the run's own."""
        event = StageEvent(kind=kind, step=step, data=data)
        self._log.record(event, self._digest)
        faults = registry().emit(event) if self._to_plugins else ()
        if self._on_event:
            self._on_event(event)
        for fault in faults:
            if fault not in self._faults:  # what raises at each step is told once
                self._faults.append(fault)
                self.tell(step, fault)

    def forward(self, candidate: str, event: StageEvent) -> None:
        """Pass on an event of a candidate, as one of a stage "qat/slow". What its run as such
        tells is in the log of its own work directory."""
        if event.step:
            self.emit(event.kind, f"{event.step}/{candidate}", **event.data)

    def report(self, stage: str, kind: str, data: Mapping[str, Any]) -> None:
        """Pass on what a stage reports."""
        if self._history is not None:
            self._history.record(kind, data)
        resources = self._meter.read(kind, data) if self._meter is not None else None
        if resources is not None:
            self.emit("resources", stage, **resources)
            self._advise(stage, "resources", resources)
        self.emit(kind, stage, **data)
        self._advise(stage, kind, data)

    def advise(self, spec: Spec, stage: str, advice: Iterable[Advice]) -> None:
        """Pass on advice, with its place in the spec."""
        for one in advice:
            span = spec.document.span(one.at)
            said = {"at": one.at, "advice": one.advice, "reason": one.reason}
            self.emit("advice", stage, place=f"{span.file}:{span.line}", **said)

    def _advise(self, stage: str, kind: str, data: Mapping[str, Any]) -> None:
        if self._adviser is not None:
            self.advise(self._adviser.spec, stage, self._adviser.hear(kind, data))

    def tell(self, stage: str, said: str | Diagnostic) -> None:
        """Pass on a message or a warning."""
        if isinstance(said, str):
            self.emit("log", stage, message=said)
        else:
            self.emit("log", stage, message=said.message, diagnostic=said)

    @contextlib.contextmanager
    def recording(
        self, history: History, digest: str, device: torch.device, adviser: Adviser | None
    ) -> Iterator[None]:
        """Inside, what the stage reports is recorded. digest: of its step; adviser: watches it."""
        self._history, self._digest, self._meter = history, digest, Meter(device)
        self._adviser = adviser
        try:
            with history:
                yield
            if adviser is not None:
                self.advise(adviser.spec, "qat", adviser.finished())
        finally:
            self._history, self._digest, self._meter = None, "", None
            self._adviser = None
