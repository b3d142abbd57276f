"""Which tensors of a checkpoint are its weights (rule: weights of a checkpoint)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from qatspec.train.tensors import Omitted

#: Names under which checkpoints keep their weights, and a moving average of them.
RAW = (
    "state_dict", "model", "model_state_dict", "model_state", "net", "network", "params", "weights",
    "module",
)  # fmt: skip
AVERAGE = (
    "ema", "state_dict_ema", "ema_state_dict", "model_ema", "ema_model", "ema_params", "params_ema",
    "ema_weights",
)  # fmt: skip
#: Names of the tensors inside an entry that is more than a state dict.
_INSIDE = ("state_dict", "module", "model", "shadow", "params")
#: What torch's AveragedModel and DistributedDataParallel put before each key.
_WRAPPER = "module."


@dataclass(frozen=True, slots=True)
class Chosen:
    """The weights of a file. entry: the name of the entry that holds them, "" for the file itself;
    average: of the entry that replaces those of the same keys, "" for none; others: names of
    further entries that hold weights; rivals: of those that hold half as much or more, where no
    name is a known one; unread: of averages that are objects, which are not read."""

    tensors: dict[str, Tensor]
    entry: str = ""
    average: str = ""
    others: tuple[str, ...] = ()
    rivals: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()


def weights_of(content: Mapping[str, Any]) -> Chosen:
    """Choose the weights of a checkpoint: those that its training judged.

    content  what a checkpoint file holds. A moving average (the names `AVERAGE`) replaces the raw
             weights (the names `RAW`, in this order, or `content` itself) of the same keys, because
             metrics are measured on it. Tensors that are not averaged (in some projects the
             buffers) are the raw ones. A wrapper's prefix `module.` on either side is no difference
             between keys. Where nothing has one of these names, an entry of another name that alone
             holds tensors is taken.

    Every use of a checkpoint but resuming its training follows this rule: `solver.weights` without
    `entry`, the next stage, convert, eval, infer, compare and sensitivity.
    """
    rivals: tuple[str, ...] = ()
    named = {name: weights for name in RAW if (weights := tensors_in(content.get(name)))}
    raw_name, raw = next(iter(named.items()), ("", {}))
    if not raw:
        raw_name, raw, named = _unnamed(content)
        rivals = (
            tuple(n for n, weights in named.items() if 2 * len(weights) >= len(raw))
            if raw_name
            else ()
        )
        rivals = rivals if len(rivals) > 1 else ()
    averages = {name: weights for name in AVERAGE if (weights := tensors_in(content.get(name)))}
    average_name, average = next(iter(averages.items()), ("", {}))
    others = tuple(name for name in (*named, *averages) if name not in (raw_name, average_name))
    unread = tuple(name for name in AVERAGE if isinstance(content.get(name), Omitted))
    if not raw:
        return Chosen(average, average_name, "", others, (), unread)
    unwrapped = {key.removeprefix(_WRAPPER): value for key, value in average.items()}
    averaged = {
        key: average.get(key, unwrapped[bare])
        for key in raw
        if (bare := key.removeprefix(_WRAPPER)) in unwrapped
    }
    if average and not averaged:
        others, average_name = (*others, average_name), ""
    return Chosen({**raw, **averaged}, raw_name, average_name, others, rivals, unread)


def entry_of(content: Mapping[str, Any], path: str) -> dict[str, Tensor]:
    """The tensors of one entry, or those of the weights whose keys begin with its name.

    path: names of entries inside each other, with dots. Returns {} where there is no such entry."""
    content_at_path = _inside(content, path)
    if content_at_path is not None:
        return tensors_in(content_at_path)
    start = f"{path}."
    return {
        key.removeprefix(start): value
        for key, value in weights_of(content).tensors.items()
        if key.startswith(start)
    }


def entries(content: Mapping[str, Any]) -> list[str]:
    """Names of the entries that hold tensors."""
    return [str(name) for name, value in content.items() if tensors_in(value)]


def module_of(content: Any) -> tuple[str, Omitted] | None:
    """(name of the entry, stand-in) of a whole module in place of weights, "" for the file itself;
    None where there is none."""
    if isinstance(content, Omitted):
        return ("", content) if content.is_module else None
    items = content if isinstance(content, Mapping) else {}
    items_of = ((name, items.get(name)) for name in (*AVERAGE, *RAW))
    return next(((n, v) for n, v in items_of if isinstance(v, Omitted) and v.is_module), None)


def tensors_in(value: Any) -> dict[str, Tensor]:
    """The tensors of a mapping by their keys, or else of a state dict inside it; none of anything
    else."""
    inside = [value.get(name) for name in _INSIDE] if isinstance(value, Mapping) else []
    return next(filter(None, map(_tensors, inside)), _tensors(value))


def _tensors(value: Any) -> dict[str, Tensor]:
    items = value.items() if isinstance(value, Mapping) else ()
    return {str(key): item for key, item in items if isinstance(item, Tensor)}


def _unnamed(content: Mapping[str, Any]) -> tuple[str, dict[str, Tensor], dict[str, Any]]:
    """(name, tensors) of the most tensors that are under no known name, "" for those of `content`
    itself; and all that were found."""
    by_entry = {
        str(name): tensors
        for name, value in content.items()
        if name not in AVERAGE and (tensors := tensors_in(value))
    }
    at_top = _tensors(content)
    if not by_entry or len(at_top) >= max(map(len, by_entry.values())):
        return "", at_top, by_entry
    name = max(by_entry, key=lambda name: len(by_entry[name]))
    return name, by_entry[name], by_entry


def _inside(content: Mapping[str, Any], path: str) -> Any:
    """What lies at a path of names with dots, None where nothing does."""
    if path in content:
        return content[path]
    for name, value in content.items():
        if isinstance(value, Mapping) and path.startswith(f"{name}."):
            tensors = _inside(value, path.removeprefix(f"{name}."))
            if tensors is not None:
                return tensors
    return None
