"""The units of a chip as rows of a timeline: its cores, its two queues, and the CPU."""

from __future__ import annotations

from collections.abc import Sequence

from qatspec.backend.schedule import Event

#: code of a command -> words
MEANING = {
    "execute": "compute",
    "weight": "load weights",
    "load": "load features",
    "store": "store features",
    "host": "CPU",
}


def lane_names(events: Sequence[Event], cores: int) -> list[str]:
    """Names of the units, in the order of `lane_of`; the CPU is one where it runs something."""
    lanes = [*(f"core {core}" for core in range(cores)), "loads", "stores"]
    return lanes + ["CPU"] * any(event.command.code == "host" for event in events)


def lane_of(event: Event, cores: int) -> int:
    """The unit that runs a command: a core by its number, then the queue of loads, that of
    stores, the CPU."""
    if event.command.code == "execute":
        return event.command.core
    return cores + ("load", "store", "host").index(event.command.code.replace("weight", "load"))


def stretches(events: Sequence[Event], gap: float) -> list[tuple[str, float, float]]:
    """(code, start, end) of stretches of one kind, small gaps closed."""
    merged: list[tuple[str, float, float]] = []
    for event in events:
        code = event.command.code
        if merged and merged[-1][0] == code and event.start - merged[-1][2] <= gap:
            merged[-1] = (code, merged[-1][1], event.end)
        elif event.end > event.start:
            merged.append((code, event.start, event.end))
    return merged
