"""What a study varies: `KEY=LOW:HIGH`, `KEY=LOW:HIGH:log` and `KEY=A,B,C`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qatspec.api import codes

_FORMS = "write KEY=LOW:HIGH, KEY=LOW:HIGH:log or KEY=A,B,C, for example "
_FORMS += "stages.qat.trainer.optimizer.lr=1e-4:1e-2:log"


@dataclass(frozen=True, slots=True)
class Range:
    """Values of a key of the spec.

    low, high   bounds, both included; integers where both are written as integers.
    log         whether they are drawn evenly on a logarithmic scale.
    choices     values to choose from, as `--set` takes them; empty for a range.
    """

    key: str
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    choices: tuple[str, ...] = ()

    def suggest(self, trial: Any) -> int | float | str:
        """The value that Optuna suggests for a trial."""
        if self.choices:
            value: str = trial.suggest_categorical(self.key, self.choices)
            return value
        if isinstance(self.low, int) and isinstance(self.high, int):
            number: int = trial.suggest_int(self.key, self.low, self.high, log=self.log)
            return number
        real: float = trial.suggest_float(self.key, self.low, self.high, log=self.log)
        return real


def parse_range(text: str) -> Range:
    """Read one `--vary`. Raises DiagnosticError QS306."""
    key, equals, values = text.partition("=")
    if not key or not equals or not values:
        raise codes.QS306.error(f"`--vary {text}` says no key with values", help=_FORMS)
    parts = values.split(":")
    if len(parts) == 1:
        return Range(key, choices=tuple(values.split(",")))
    try:
        low, high = (_number(part) for part in parts[:2])
    except ValueError:
        raise codes.QS306.error(f"`--vary {text}` has no numbers", help=_FORMS) from None
    if len(parts) > 3 or (len(parts) == 3 and parts[2] != "log"):
        raise codes.QS306.error(f"`--vary {text}` ends in `{parts[-1]}`", help=_FORMS)
    log = len(parts) == 3
    if not low < high or (log and low <= 0):
        raise codes.QS306.error(
            f"`--vary {text}` has no values between {low} and {high}",
            help="write the smaller number first" + (", above 0" if log else ""),
        )
    return Range(key, low, high, log)


def _number(text: str) -> int | float:
    try:
        return int(text)
    except ValueError:
        return float(text)
