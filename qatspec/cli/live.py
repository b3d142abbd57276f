"""Progress of a run: bars on a terminal, plain lines otherwise."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from qatspec.diag import Diagnostic
from qatspec.render import WORD
from qatspec.types import StageEvent

#: seconds between lines where there is no terminal
PLAIN_INTERVAL = 5.0
#: Columns by which what does not fit into a line begins further to the right.
_HANGING = 4


class _Rate(ProgressColumn):
    """Steps or images a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{speed:.1f} {task.fields['unit']}/s", "cyan")


class Live:
    """Shows events. Use as a context manager around the run; `show` is the callback.

    warn: called with the warnings that a stage reports.
    """

    def __init__(self, console: Console, warn: Callable[[Diagnostic], None]) -> None:
        self._console = console
        self._warn = warn
        self._warned: list[Diagnostic] = []
        self._phases: dict[str, _Phase] = {}  # step -> what it does: candidates run side by side
        self._progress = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            TextColumn("{task.fields[note]}", style="dim"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    def __enter__(self) -> Live:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def show(self, event: StageEvent) -> None:
        """Show one event; other kinds of events are ignored."""
        handlers: dict[str, Callable[[str, Mapping[str, Any]], None]] = {
            "rehearsal": self._rehearsal,
            "step_started": self._step_started,
            "step_cached": self._step_cached,
            "step_finished": self._step_finished,
            "step_failed": self._step_failed,
            "progress": self._moved,
            "metrics": self._metrics,
            "log": self._log,
            "advice": self._advice,
            "profile": self._profile,
        }
        if event.kind in handlers:
            handlers[event.kind](event.step, event.data)

    def _rehearsal(self, step: str, data: Mapping[str, Any]) -> None:
        stages = ", ".join(data["stages"])
        self._print(escape(f"before training, each stage is tried on a batch: {stages}"))

    def _step_started(self, step: str, data: Mapping[str, Any]) -> None:
        resumed = data["resumed_from"]
        note = f" (resumed from step {resumed})" if resumed else ""
        self._print(f"[bold]{data['number']}/{data['total']} {step}[/]{note}")

    def _step_cached(self, step: str, data: Mapping[str, Any]) -> None:
        self._print(f"[bold]{step}[/] cached{_figures(data['metrics'])}")

    def _step_finished(self, step: str, data: Mapping[str, Any]) -> None:
        self._end_phase(step)
        said = f"done in {duration(data['seconds'])}{_figures(data['metrics'])}"
        self._print(f"  {_of(step)}{said}")

    def _step_failed(self, step: str, data: Mapping[str, Any]) -> None:
        self._end_phase(step)
        self._print(f"  [red]{step} {data['status']}[/]")

    def _metrics(self, step: str, data: Mapping[str, Any]) -> None:
        self._end_phase(step)
        figures = {k: v for k, v in data.items() if k not in ("epoch", "step")}
        where = f"epoch {data['epoch']}" if "epoch" in data else f"step {data['step']}"
        self._print(f"  {_of(step)}{where}{_figures(figures)}")

    def _profile(self, step: str, data: Mapping[str, Any]) -> None:
        self._end_phase(step)
        total = sum(data["seconds"].values()) or 1.0
        lines = [f"  {_of(step)}where the time of {data['steps']} steps went"]
        for part, seconds in data["seconds"].items():
            lines.append(f"    {part:<10}{seconds:9.2f} s {seconds / total:6.1%}")
        quiet, self._console.quiet = self._console.quiet, False  # it is there only if asked for
        try:
            self._print("\n".join(lines))
        finally:
            self._console.quiet = quiet

    def _advice(self, step: str, data: Mapping[str, Any]) -> None:
        line = data["place"].rpartition("/")[2]
        self._print(escape(f"  advice, {line}: {data['advice']}: {data['reason']}"))

    def _log(self, step: str, data: Mapping[str, Any]) -> None:
        if "diagnostic" in data:
            if data["diagnostic"] not in self._warned:  # every stage opens the data anew
                self._warned.append(data["diagnostic"])
                self._warn(data["diagnostic"])
        else:
            self._print(escape(f"  {data['message']}"))

    def _moved(self, step: str, data: Mapping[str, Any]) -> None:
        name = data.get("phase", step)
        name = f"{step}: {name}" if "/" in step and name != step else name
        phase = self._phases.get(step)
        if phase is None or phase.name != name:
            self._end_phase(step)
            bar = self._progress.add_task(
                name, total=data["total"], completed=data["done"], unit=data["unit"], note=""
            )
            phase = _Phase(name, bar, _Plain(name, data["unit"], data["done"]))
            self._phases[step] = phase
        note = f"epoch {data['epoch']}  loss {data['loss']:.3f}" if "loss" in data else ""
        self._progress.update(phase.bar, completed=data["done"], note=note)
        if not self._console.is_terminal:
            line = phase.plain.line(data["done"], data["total"], note)
            if line:
                self._print(line)

    def _end_phase(self, step: str) -> None:
        if (phase := self._phases.pop(step, None)) is not None:
            self._progress.remove_task(phase.bar)

    def _print(self, text: str) -> None:
        """Print lines; on a terminal they are wrapped between words, below their beginning."""
        console = self._console
        for line in console.render_str(text, markup=True, highlight=False).split("\n"):
            parts = _wrapped(line, console) if console.is_terminal else [line]
            for part in parts:
                console.print(part, highlight=False, soft_wrap=True)


def _of(step: str) -> str:
    """What begins a line of a candidate; several may print lines at the same time."""
    return escape(f"{step}: ") if "/" in step else ""


def _wrapped(line: Text, console: Console) -> list[Text]:
    """The lines of a text, no longer than the console is wide where its words allow it."""
    if line.cell_len <= console.width:
        return [line]
    begin = len(line.plain) - len(line.plain.lstrip())
    limit, start, breaks = console.width, 0, []
    for word in WORD.finditer(line.plain):
        if word.end() - start > limit and word.start() > start + begin:
            breaks.append(start := word.start())
            limit = console.width - begin - _HANGING
    first, *others = line.divide(breaks)
    parts = [first, *(Text(" " * (begin + _HANGING)) + part for part in others)]
    for part in parts:
        part.rstrip()
    return parts


@dataclass(frozen=True, slots=True)
class _Phase:
    name: str
    bar: TaskID
    plain: _Plain


class _Plain:
    """Prints one progress line every few seconds, for logs."""

    def __init__(self, phase: str, unit: str, done: int) -> None:
        self._phase, self._unit, self._first = phase, unit, done
        self._started = self._last = time.monotonic()

    def line(self, done: int, total: int, note: str) -> str | None:
        now = time.monotonic()
        if now - self._last < PLAIN_INTERVAL:
            return None
        self._last = now
        rate = max(done - self._first, 1) / (now - self._started)
        left = duration((total - done) / rate)
        return (
            f"  {self._phase} {done}/{total} {self._unit}s, {rate:.1f}/s, {left} left  {note}"
        ).rstrip()


def duration(seconds: float) -> str:
    """12.3 s, 4:05, 1:02:03."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _figures(metrics: Mapping[str, float]) -> str:
    shown = list(metrics.items())[:2]
    return escape("".join(f"  {name} {value:.1f}" for name, value in shown))
