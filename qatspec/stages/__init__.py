"""The five stages. Each module has `run(context) -> Outcome`; the set is closed."""

from __future__ import annotations

from collections.abc import Callable

from qatspec.stages import calibration, compile, convert, float, qat
from qatspec.stages.context import Context, Exactness, Outcome

RUN: dict[str, Callable[[Context], Outcome]] = {
    "float": float.run,
    "calibration": calibration.run,
    "qat": qat.run,
    "convert": convert.run,
    "compile": compile.run,
}

__all__ = ["RUN", "Context", "Exactness", "Outcome"]
