"""The course of a stage: `<stage>-history.jsonl` in its folder, one JSON object a line.

Entries are in the order of training, and equal trainings have equal bytes, whether they were
interrupted or not. What a clock measures is not in them (see `qatspec.engine.logs`).

    {"kind": "step", "step", "epoch", "images", "loss", "losses": {name: value}, "lr", "grad_norm"}
    {"kind": "metrics", "step", "metrics": {name: value, null where it is not finite}}
    {"kind": "scales", "step", "scales": {fake-quant: value, or [least, median, largest]}}

`step` counts optimizer steps (calibration: batches) from 1, `epoch` likewise. A step's losses are
means over the processes, and `grad_norm` is the L2 norm before clipping.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qatspec.files import read_file

Entry = Mapping[str, Any]

SUFFIX = "-history.jsonl"
#: Kinds of entries in the order in which those of one step are written.
KINDS = ("step", "metrics", "scales")
_LARGEST = 1 << 30


def history_path(folder: Path, stage: str) -> Path:
    """The history of a stage whose results lie in `folder`."""
    return folder / f"{stage}{SUFFIX}"


def read_history(path: Path) -> list[Entry]:
    """Read the entries of a history.

    Returns them in order; none where there is no file. A line that a crash cut short is omitted,
    and so is everything behind a line that is damaged.
    """
    try:
        lines = read_file(path, _LARGEST).split(b"\n")
    except OSError:
        return []
    entries: list[Entry] = []
    for line in lines[:-1]:  # a complete line ends with a newline
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            break
        if not isinstance(entry, dict) or entry.get("kind") not in KINDS:
            break
        if not isinstance(entry.get("step"), int):
            break
        entries.append(entry)
    return entries


def line_of(entry: Entry) -> bytes:
    """An entry as a line of the file."""
    return json.dumps(_finite(entry), ensure_ascii=False, allow_nan=False).encode() + b"\n"


def lines_of(entries: Iterable[Entry]) -> bytes:
    """Entries as the contents of the file."""
    return b"".join(map(line_of, entries))


def _finite(value: Any) -> Any:
    """The value with null for numbers that JSON cannot hold."""
    if isinstance(value, Mapping):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
