"""Key maps: the file's keys as the spec translates them to the model's."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from qatspec.diag.codes import QS902
from qatspec.train.prefixes import COUNTER

KeyMap = Literal["by_order"] | Sequence[tuple[str, str | None]] | None


def mapped(
    state: Mapping[str, Tensor], key_map: KeyMap, model: nn.Module, *, source: Path, at: str
) -> dict[str, Tensor]:
    """`state` under the model's keys. at: pointer of the key map in the spec.

    Raises DiagnosticError QS902 where a pair of the map matches no key, where two keys become one,
    or, by_order, where both orders do not fit.
    """
    if key_map is None:
        return dict(state)
    if key_map == "by_order":
        return _by_order(state, model.state_dict(), source, at)
    names: dict[str, str | None] = {key: key for key in state}
    for index, (pattern, replacement) in enumerate(key_map):
        matched = [k for k, name in names.items() if name is not None and re.search(pattern, name)]
        if not matched:
            example = next(name for name in (*names.values(), "") if name is not None)
            raise QS902.error(
                f"`{pattern}` matches no key of `{source.name}`",
                help=f"its keys look like `{example}` by then",
                at=f"{at}/{index}",
            )
        for key in matched:
            name = str(names[key])
            names[key] = None if replacement is None else re.sub(pattern, replacement, name)
    result: dict[str, Tensor] = {}
    for key, model_key in names.items():
        if model_key is None:
            continue
        if model_key in result:
            first = next(k for k, n in names.items() if n == model_key)
            message = f"the key map makes `{model_key}` of both `{first}` and `{key}`"
            raise QS902.error(message, help="tell them apart", at=at)
        result[model_key] = state[key]
    return result


def has_same_order(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Return whether `key_map: by_order` takes `state` for the model's state dict."""
    pairs = zip_longest(_uncounted(state), _uncounted(expected))
    return all(a and b and _alike(a, state[a], b, expected[b]) for a, b in pairs)


def _by_order(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Path, at: str
) -> dict[str, Tensor]:
    """Tensor by tensor; each pair must agree in shape and in the last part of its name."""
    theirs, mine = _uncounted(state), _uncounted(expected)
    for file_key, key in zip_longest(theirs, mine):
        if (
            file_key is None
            or key is None
            or not _alike(file_key, state[file_key], key, expected[key])
        ):
            where = (
                f"`{file_key}` {tuple(state[file_key].shape)}" if file_key else "no more tensors"
            )
            wanted = f"`{key}` {tuple(expected[key].shape)}" if key else "no more"
            raise QS902.error(
                f"the orders do not fit: `{source.name}` ({len(theirs)} tensors) has "
                f"{where} where the model ({len(mine)}) has {wanted}",
                help="use weights of this very network, or [regex, replacement] pairs",
                at=at,
            )
    counters = {key: value for key, value in expected.items() if key.endswith(COUNTER)}
    pairs = zip(theirs, mine, strict=True)
    return {**counters, **{key: state[file_key] for file_key, key in pairs}}


def _uncounted(state: Mapping[str, Tensor]) -> list[str]:
    return [key for key in state if not key.endswith(COUNTER)]


def _alike(file_key: str, value: Tensor, key: str, expected: Tensor) -> bool:
    return value.shape == expected.shape and file_key.rpartition(".")[2] == key.rpartition(".")[2]
