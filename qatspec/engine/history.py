"""Writes the history of a stage (see `qatspec.plan.history`) from the events of a run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from qatspec.plan.history import KINDS, Entry, history_path, line_of, lines_of, read_history
from qatspec.train.checkpoint import Checkpoint
from qatspec.train.files import cannot_write, write_bytes

#: Keys of an event "progress" that an entry "step" has.
_STEP_KEYS = ("epoch", "images", "loss", "losses", "lr", "grad_norm")


class History:
    """The history of one stage, appended to while it runs. Use as a context manager.

    folder   of the stage. A history that is there is cut to what `resumed` has done.
    resumed  the checkpoint that the stage resumes from; None from the start.
    judged   a folder with the stage's finished results, whose checkpoints are judged again: its
             history goes to `folder`, with the new metrics.

    Raises DiagnosticError QS903 where it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        stage: str,
        *,
        resumed: Checkpoint | None = None,
        judged: Path | None = None,
    ) -> None:
        self.path = history_path(folder, stage)
        entries = read_history(history_path(judged or folder, stage))
        if judged is None:
            entries = [entry for entry in entries if _is_done(entry, resumed)]
        self._last_judged = max((e["step"] for e in entries if e["kind"] == "metrics"), default=-1)
        self._judged_again: dict[int, Entry] = {}
        write_bytes(self.path, lines_of(entries))
        try:
            self._file = self.path.open("ab")
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def record(self, kind: str, data: Mapping[str, Any]) -> None:
        """Record an event of the stage, where it belongs to its history."""
        if kind == "progress" and "loss" in data:
            step = {key: data[key] for key in _STEP_KEYS}
            self._append({"kind": "step", "step": data["done"], **step})
        elif kind == "metrics":
            metrics = {name: v for name, v in data.items() if name not in ("epoch", "step")}
            self._judge({"kind": "metrics", "step": data["step"], "metrics": metrics})
        elif kind == "scales":
            self._append({"kind": "scales", "step": data["step"], "scales": data["scales"]})
        elif kind == "checkpoint":
            self._sync()

    def _judge(self, entry: Entry) -> None:
        """Append metrics; those of a step that is not the newest are of checkpoints that are judged
        again, and replace all metrics when the stage ends."""
        if self._judged_again or entry["step"] <= self._last_judged:
            self._judged_again[entry["step"]] = entry
        else:
            self._append(entry)
            self._last_judged = entry["step"]

    def _append(self, entry: Entry) -> None:
        try:
            self._file.write(line_of(entry))
            self._file.flush()
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def _sync(self) -> None:
        """Bring it to the disk: a checkpoint that is written next is never ahead of it."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise cannot_write(self.path, error) from error

    def __enter__(self) -> History:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if error is None and self._judged_again:
            entries = [e for e in read_history(self.path) if e["kind"] != "metrics"]
            entries += self._judged_again.values()
            write_bytes(self.path, lines_of(sorted(entries, key=_order)))


def _is_done(entry: Entry, resumed: Checkpoint | None) -> bool:
    """Return whether what an entry says is not going to be done, and recorded, again."""
    if resumed is None:
        return False
    is_validated_again = resumed.stage == "calibration" or "unfinished" in resumed.sampler
    if entry["kind"] != "step" and is_validated_again:
        return bool(entry["step"] < resumed.step)
    return bool(entry["step"] <= resumed.step)


def _order(entry: Entry) -> tuple[int, int]:
    return entry["step"], KINDS.index(entry["kind"])
