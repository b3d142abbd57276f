"""Which random numbers a model draws while it is traced."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qatspec.diag import Span

#: Arguments of torch's random ops that switch the randomness off: name -> the value that does.
_OFF = {"train": False, "training": False, "p": 0, "dropout": 0, "dropout_p": 0}


class RandomOps(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes each op that draws from a generator, wherever it is called.

    running_line: the line of the model's code that is running. drawn: line -> name of the op.
    drawn_in_python: the same of the generators of Python and NumPy, whose numbers no graph can draw
    anew. It is filled only where watches_python: to look at the states of those generators takes as
    long as to record a node.
    """

    def __init__(
        self, running_line: Callable[[], Span | None], *, watches_python: bool = False
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running_line = running_line
        self.watches_python = watches_python
        self.drawn: dict[Span | None, str] = {}
        self.drawn_in_python: dict[Span | None, str] = {}
        self._states = _states_in_python()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        if torch.Tag.nondeterministic_seeded in func.tags and not _switched_off(func, args, kwargs):
            name = str(func).removeprefix("aten.").partition(".")[0]
            self.drawn.setdefault(self.running_line(), name)
        return func(*args, **(kwargs or {}))

    def needs_to_watch_python(self) -> bool:
        """Whether the model drew from a generator of Python or NumPy, which was not watched."""
        return not self.watches_python and self._states != _states_in_python()

    def watch_python(self) -> None:
        """Note that the model drew from a generator of Python or NumPy since the last call."""
        if not self.watches_python:
            return
        before, self._states = self._states, _states_in_python()
        for name, state in self._states.items():
            if state != before[name]:
                self.drawn_in_python.setdefault(self.running_line(), name)


def _states_in_python() -> dict[str, int]:
    state: Any = np.random.get_state()
    of_numpy = hash((state[1].tobytes(), *state[2:]))
    return {"random": hash(random.getstate()), "numpy.random": of_numpy}


def _switched_off(func: Any, args: tuple[Any, ...], kwargs: Any) -> bool:
    arguments = func._schema.arguments
    values = {a.name: a.default_value for a in arguments if a.has_default_value()}
    values |= dict(zip((a.name for a in arguments), args, strict=False))
    values |= kwargs or {}
    return any(name in values and values[name] == value for name, value in _OFF.items())
