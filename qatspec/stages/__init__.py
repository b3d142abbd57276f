"""The five stages. Each module has `run(context) -> Outcome`; those whose result is judged on
data.val have `judge(context) -> Outcome` too, which judges a finished stage again; compile is run
again. The set is closed."""

from __future__ import annotations

from collections.abc import Callable

from qatspec.stages import calibration, compile, convert, float, qat
from qatspec.stages.context import Context as Context, Exactness as Exactness, Outcome as Outcome

RUN: dict[str, Callable[[Context], Outcome]] = {
    "float": float.run,
    "calibration": calibration.run,
    "qat": qat.run,
    "convert": convert.run,
    "compile": compile.run,
}

JUDGE: dict[str, Callable[[Context], Outcome]] = {
    "float": float.judge,
    "calibration": calibration.judge,
    "qat": qat.judge,
    "convert": convert.judge,
    "compile": compile.run,
}
