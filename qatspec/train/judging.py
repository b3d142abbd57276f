"""Metrics of predictions, and which keys of `sample` or `predict` a data set's `evaluate` lacks."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qatspec.diag.words import quote_list
from qatspec.registry import registry
from qatspec.train.protocol import name_of
from qatspec.types import DatasetDef

#: Absent keys that a message names at most.
_MOST_KEYS = 8


def judge(
    dataset: Any,
    predict: Any,
    definition: DatasetDef | None,
    predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> Any:
    """Return what `evaluate` of a data set makes of (meta, prediction) pairs.

    Raises PluginFault where it looks for a key that is absent: that of `sample`, whose meta lacks
    it, or that of `predict`.
    """
    pairs = [(_Keyed("meta", meta), _Keyed("prediction", one)) for meta, one in predictions]
    try:
        return dataset.evaluate(pairs)
    except _AbsentKeyError as error:
        lacking, judges = error.lacking, name_of(None, definition)
        has = quote_list(sorted(map(str, lacking))) or "nothing"
        keys = quote_list(_absent_keys(dataset, pairs, error))
        if lacking.holds == "meta":
            message = f"sample() of {judges} gives {has} as meta; its evaluate() reads {keys}"
            owner, method = getattr(dataset, "limited", dataset), "sample"
        else:
            owner, method = getattr(predict, "__self__", predict), "predict"
            message = f"predict() of {name_of(owner)} gives {has} for an image; "
            message += f"{judges} judges {keys}"
        raise registry().interface_fault(message, method, owner=owner) from error


def _absent_keys(
    dataset: Any, pairs: Sequence[tuple[_Keyed, _Keyed]], error: _AbsentKeyError
) -> list[str]:
    """The keys that `evaluate` reads and that `error.lacking` and its like do not hold: the one of
    `error`, and those that it asks for as long as empty arrays answer for the absent ones."""
    holds, keys = error.lacking.holds, [str(error.args[0])]
    while len(keys) < _MOST_KEYS:
        for one in (of for pair in pairs for of in pair if of.holds == holds):
            one.setdefault(error.args[0], np.zeros((0, 4)))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                dataset.evaluate(pairs)
        except _AbsentKeyError as other:
            if other.lacking.holds != holds:
                break
            error = other
            keys.append(str(error.args[0]))
        except Exception:  # noqa: BLE001 - whatever it raises without numbers, it needs more
            break
        else:
            break
    return keys


class _AbsentKeyError(KeyError):
    """A key that `evaluate` of a data set reads, but `lacking` does not hold."""

    def __init__(self, key: Any, lacking: _Keyed) -> None:
        super().__init__(key)
        self.lacking = lacking


class _Keyed(dict[str, Any]):
    """A dict whose KeyError says which dict lacks the key. holds: meta or prediction."""

    def __init__(self, holds: str, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.holds = holds

    def __missing__(self, key: Any) -> Any:
        raise _AbsentKeyError(key, self)
