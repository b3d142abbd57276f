"""What trackers have in common: the numbers of an event."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Protocol

from qatspec.api import StageEvent


class Tracker(Protocol):
    """A tracker of one run, which is made of the data of its event "run_started"."""

    def __init__(self, run: Mapping[str, Any]) -> None: ...

    def show(self, event: StageEvent) -> None:
        """Show an event. It is called with every event of the run, the first one included."""
        ...


def numbers(event: StageEvent) -> dict[str, float]:
    """The numbers of an event, named by stage and group: "qat/loss", "qat/losses/cls", "qat/lr",
    "qat/metrics/AP", "qat/scales/<fake-quant>" (the median of its channels). Empty where the event
    has none; numbers of a step are those of `step_of`."""
    data = event.data
    if event.kind == "progress" and "loss" in data:
        parts = {f"losses/{k}": v for k, v in data["losses"].items() if k != "loss"}
        values = {"loss": data["loss"], "lr": data["lr"], "grad_norm": data["grad_norm"], **parts}
    elif event.kind == "metrics":
        values = {f"metrics/{k}": v for k, v in data.items() if k not in ("step", "epoch")}
    elif event.kind == "resources":
        values = {k: v for k, v in data.items() if k != "step" and v is not None}
    elif event.kind == "scales":
        values = {
            f"scales/{k}": v[1] if isinstance(v, list) else v for k, v in data["scales"].items()
        }
    else:
        return {}
    return {f"{event.step}/{name}": float(value) for name, value in values.items()}


def step_of(event: StageEvent) -> int:
    """The step, from 1, of an event that has numbers."""
    return int(event.data["done"] if event.kind == "progress" else event.data["step"])


def allowed(name: str) -> str:
    """The name with an underscore for each character that MLflow does not allow in names of
    parameters and metrics: a colon too, which it refuses on Windows."""
    return re.sub(r"[^\w\-. /]", "_", name)


def settings_of(run: Mapping[str, Any]) -> dict[str, str]:
    """The settings of a run by names that MLflow allows; a number is added to one that is taken."""
    settings: dict[str, str] = {}
    for pointer, value in run["settings"].items():
        name = plain = allowed(pointer.strip("/").replace("~1", "_"))
        number = 1
        while name in settings:
            number += 1
            name = f"{plain}.{number}"
        settings[name] = str(value)
    return settings
