"""Weights from elsewhere: state dicts whose keys another project named."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, nn

from qatspec.diag import Code, DiagnosticError, Span
from qatspec.diag.codes import QS901, QS902, QS905
from qatspec.files import how_to_read, why_unreadable
from qatspec.train.tensors import load_tensors

KeyMap = Literal["by_order"] | Sequence[tuple[str, str | None]] | None

#: A batch norm's counter of batches, which some files hold and some do not: it is not a weight.
_COUNTER = "num_batches_tracked"


#: Names under which checkpoints keep their weights, and a moving average of them.
_RAW = ("state_dict", "model", "model_state_dict")
_AVERAGE = ("ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model")
#: Names of the tensors inside an average that is more than a state dict.
_INSIDE_AVERAGE = ("state_dict", "module", "model", "shadow")
#: What torch's AveragedModel and DistributedDataParallel put before each key.
_WRAPPER = "module."


def weights_of(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the weights of a checkpoint: those that its training judged.

    content  what a checkpoint file holds. A moving average (`ema`, `state_dict_ema`,
             `ema_state_dict`, `model_ema`, `ema_model`) replaces the raw weights (`state_dict`,
             `model`, `model_state_dict`, or `content` itself) of the same keys, because metrics are
             measured on it. Tensors that are not averaged (in some projects the buffers) are the
             raw ones. A wrapper's prefix `module.` on either side is no difference between keys.

    Every use of a checkpoint but resuming its training follows this rule: `solver.weights`, the
    next stage, convert, eval, infer, compare and sensitivity.
    """
    raw = next(filter(None, (_tensors(content.get(name)) for name in _RAW)), _tensors(content))
    average = next(filter(None, (_average(content.get(name)) for name in _AVERAGE)), {})
    unwrapped = {key.removeprefix(_WRAPPER): value for key, value in average.items()}
    averaged = {
        key: average.get(key, unwrapped[bare])
        for key in raw
        if (bare := key.removeprefix(_WRAPPER)) in unwrapped
    }
    return {**raw, **averaged} if raw else average


def _average(value: Any) -> dict[str, Tensor]:
    inside = [value.get(name) for name in _INSIDE_AVERAGE] if isinstance(value, Mapping) else []
    return next(filter(None, map(_tensors, inside)), _tensors(value))


def _tensors(value: Any) -> dict[str, Tensor]:
    """The tensors of a mapping by their keys; none of anything else."""
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(key): item for key, item in items if isinstance(item, Tensor)}


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a file of `torch.save`, without running code from it.

    path  a state dict, or a checkpoint that holds one (see `weights_of`).

    Raises DiagnosticError: QS905 when there is none, QS901 when it is damaged or something else.
    """
    try:
        content = load_tensors(path)
    except OSError as error:
        message = f"the weights `{path}` cannot be read: {why_unreadable(error)}"
        raise _fault(QS905, message, how_to_read(error, "correct the path"), path) from error
    except ValueError as error:
        raise _not_weights(path, str(error)) from error
    if not isinstance(content, Mapping):
        raise _not_weights(path, f"it holds a {type(content).__name__}")
    found = weights_of(content)
    if not found:
        raise _not_weights(path, "it holds no tensors")
    return found


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


def _by_order(
    state: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: Path, at: str
) -> dict[str, Tensor]:
    """Tensor by tensor; each pair must agree in shape and in the last part of its name."""
    theirs = [key for key in state if not key.endswith(_COUNTER)]
    mine = [key for key in expected if not key.endswith(_COUNTER)]
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
    counters = {key: value for key, value in expected.items() if key.endswith(_COUNTER)}
    pairs = zip(theirs, mine, strict=True)
    return {**counters, **{key: state[file_key] for file_key, key in pairs}}


def _alike(file_key: str, value: Tensor, key: str, expected: Tensor) -> bool:
    return value.shape == expected.shape and file_key.rpartition(".")[2] == key.rpartition(".")[2]


def _not_weights(path: Path, why: str) -> DiagnosticError:
    message = f"`{path.name}` holds no weights that can be read safely: {why}"
    advice = "save them again in a trusted environment: torch.save(model.state_dict(), ...)"
    return _fault(QS901, message, advice, path)


def _fault(code: Code, message: str, advice: str, path: Path) -> DiagnosticError:
    return code.error(message, help=advice, span=Span(file=str(path)))
