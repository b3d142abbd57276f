"""How the weights of a file and those of a model differ: a table, and the settings that would make
them fit."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from qatspec.diag import Note
from qatspec.quant.state import FittedState
from qatspec.train.key_maps import has_same_order

#: Rows of one kind of difference, and names in a row.
_ROWS, _NAMES = 8, 4
#: Likeness of two names from which on one may stand for the other.
_ALIKE = 0.4


@dataclass(frozen=True, slots=True)
class Differences:
    """names: key of the fitted weights -> key of the file before any renaming of qatspec.
    renames: module of the file -> that of the model with the same tensors and the nearest name."""

    fitted: FittedState
    weights: Mapping[str, Tensor]
    expected: Mapping[str, Tensor]
    names: Mapping[str, str]
    renames: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        model: nn.Module,
        fitted: FittedState,
        weights: Mapping[str, Tensor],
        names: Mapping[str, str],
    ) -> Differences:
        expected = model.state_dict()
        renames = _renames(fitted, weights, expected)
        return cls(fitted, weights, expected, names, renames)

    def notes(self) -> tuple[Note, ...]:
        """The table: a row for each module, or for each group of modules where they are many."""
        shapes = {
            key: f"{key} {theirs} in the file, {ours} in the model"
            for key, (theirs, ours) in self.fitted.reshaped.items()
        }
        nearest = [f"`{a}` in the file is like `{b}` in the model" for a, b in self.renames.items()]
        rows = [
            *_rows("lacks", self.fitted.missing),
            *_rows("has unknown", self.fitted.unexpected),
            *_bounded("other shape:", list(shapes.values())),
            *_bounded("same shapes:", nearest),
        ]
        return tuple(map(Note, rows))

    def settings(self) -> str:
        """Keys of the float stage's solver with which the file loads, as YAML; "" where most of the
        model would stay as it was initialised."""
        theirs = _modules(self.fitted.unexpected, self.weights)
        ours = _modules(self.fitted.missing, self.expected)
        left = [shapes for module, shapes in theirs.items() if module not in self.renames]
        doubtful = any(ours[m] in left for m in ours if m not in self.renames.values())
        if doubtful or len(self.renames) > _NAMES:
            return "key_map: by_order" if has_same_order(self.weights, self.expected) else ""
        pairs = [[rf"^{re.escape(self._in_file(a))}\.", f"{b}."] for a, b in self.renames.items()]
        unloaded = [*self.fitted.missing, *self.fitted.reshaped]
        fresh = [key for key in unloaded if _module(key) not in self.renames.values()]
        extra = [key for key in self.fitted.unexpected if _module(key) not in self.renames]
        if 2 * len(fresh) > len(self.expected):
            return ""
        patterns = [
            pattern
            for module, keys in _groups(fresh)
            for pattern in (
                [rf"^{re.escape(module)}\."] if module else [f"^{re.escape(key)}$" for key in keys]
            )
        ]
        parts = [
            f"key_map: {_yaml(pairs)}" if pairs else "",
            f"fresh: {_yaml(patterns)}" if patterns else "",
            "ignore_extra: true" if extra else "",
        ]
        return ", ".join(filter(None, parts))

    def _in_file(self, module: str) -> str:
        """The name that a module has in the file."""
        key = next(key for key in self.weights if key.startswith(f"{module}."))
        tail = key.removeprefix(module)
        return self.names.get(key, key).removesuffix(tail)


def _rows(verb: str, keys: Sequence[str]) -> list[str]:
    rows = []
    for module, inside in _groups(keys):
        names = [key.removeprefix(f"{module}.") for key in inside]
        more = f", ... ({len(names)} in all)" if len(names) > _NAMES else ""
        shown = ", ".join(names[:_NAMES]) + more
        rows.append(f"`{module}`: {shown}" if module else shown)
    return _bounded(verb, rows)


def _bounded(verb: str, rows: Sequence[str]) -> list[str]:
    more = [f"{verb} {len(rows) - _ROWS} more"] if len(rows) > _ROWS else []
    return [*(f"{verb} {row}" for row in rows[:_ROWS]), *more]


def _groups(keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    """(module, its keys), sorted by name: the innermost modules, or those of the depth at which
    they are few."""
    depths = range(max((key.count(".") for key in keys), default=0), 0, -1)
    grouped: dict[str, list[str]] = {}
    for depth in [*depths, 1]:
        grouped = {}
        for key in sorted(keys, key=_natural):
            grouped.setdefault(".".join(_module(key).split(".")[:depth]), []).append(key)
        if len(grouped) <= _ROWS:
            break
    return list(grouped.items())


def _natural(key: str) -> list[tuple[int, str]]:
    """Sorts `layer.2` in front of `layer.10`."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in key.split(".")]


def _renames(
    fitted: FittedState, weights: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> dict[str, str]:
    """Modules of the file -> those of the model that lack tensors of the same names and shapes,
    by nearest names; each once."""
    theirs = _modules(fitted.unexpected, weights)
    ours = _modules(fitted.missing, expected)
    renamed: dict[str, str] = {}
    for module, shapes in theirs.items():
        fitting = [m for m, s in ours.items() if s == shapes and m not in renamed.values()]
        near = difflib.get_close_matches(module, fitting, n=1, cutoff=0.0)
        alone = len(fitting) == 1
        if near and (alone or difflib.SequenceMatcher(None, module, near[0]).ratio() >= _ALIKE):
            renamed[module] = near[0]
    return renamed


def _modules(keys: Sequence[str], tensors: Mapping[str, Tensor]) -> dict[str, dict[str, object]]:
    """Module -> {name of its tensor: shape}, of those keys that have a module."""
    tensors_of: dict[str, dict[str, object]] = {}
    for key in keys:
        if module := _module(key):
            tensors_of.setdefault(module, {})[key.rpartition(".")[2]] = tensors[key].shape
    return tensors_of


def _module(key: str) -> str:
    return key.rpartition(".")[0]


def _yaml(value: Sequence[Sequence[str] | str]) -> str:
    items = (f"'{v}'" if isinstance(v, str) else _yaml(v) for v in value)
    return f"[{', '.join(items)}]"
