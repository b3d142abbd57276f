"""Which keys of a checkpoint a model takes: float keys keep their names through every stage, and
fake-quants come and go (rule: constant keys)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import accumulate

from torch import Tensor, nn

from qatspec.quant.fake_quant import NOT_FINITE, FakeQuantize
from qatspec.quant.regrid import OBSERVER, dtype_of


@dataclass(frozen=True, slots=True)
class FittedState:
    """state: what `model.load_state_dict(state, strict=False)` should be given. missing: keys that
    the model has and the checkpoint should have had. unexpected: keys that the model lacks.
    reshaped: key -> (shape in the checkpoint, shape in the model); not in `state`.
    converted: fake-quant -> (dtype in the checkpoint, dtype in the model) where these differ;
    loading converts their scales. unlabelled: fake-quants whose scale comes without its dtype."""

    state: dict[str, Tensor]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    reshaped: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    converted: Mapping[str, tuple[str, str]]
    unlabelled: tuple[str, ...]


def fit_state(model: nn.Module, state: Mapping[str, Tensor]) -> FittedState:
    """Fit a checkpoint of any stage to a model of any stage; nothing is loaded.

    - An observer's internals are taken over where the checkpoint's observer has the same keys as
      the model's, else left behind without a word: scales travel, histograms do not.
    - A checkpoint without any fake-quant (a float one) need not have them.
    - A batch norm's counter of batches is not a weight: files of other projects need not have it.
    - A conv that prepare copied (shared_conv: copy) starts from the one it was copied from.
    """
    marks = f".{NOT_FINITE}"  # of the model's present calibration, not of what is loaded
    state_of_model = {k: v for k, v in model.state_dict().items() if not k.endswith(marks)}
    entries = dict(state)
    for copied, source in _copies(model).items():
        for key in [k for k in entries if k.startswith(f"{source}.")]:
            entries.setdefault(f"{copied}.{key.removeprefix(f'{source}.')}", entries[key])
    fake_quants = fake_quant_keys(state_of_model)
    quantized = fake_quant_keys(entries)
    mine, theirs = _observers(fake_quants), _observers(quantized)
    foreign = {k for owner, keys in theirs.items() if mine.get(owner) != keys for k in keys}
    taken = {key: value for key, value in entries.items() if key not in foreign}
    reshaped = {
        key: (tuple(value.shape), tuple(state_of_model[key].shape))
        for key, value in taken.items()
        if key in state_of_model and value.shape != state_of_model[key].shape
    }
    dtypes = _dtypes(model, taken)
    unlabelled = tuple(path for path, (theirs, _) in dtypes.items() if theirs is None)
    excused = {k for keys in mine.values() for k in keys} if quantized else fake_quants
    excused |= {f"{path}.quant_range" for path in unlabelled}
    return FittedState(
        state={k: v for k, v in taken.items() if k in state_of_model and k not in reshaped},
        missing=tuple(
            key
            for key in state_of_model
            if not (key in taken or key in excused or _is_counter(key))
        ),
        unexpected=tuple(
            key for key in taken if key not in state_of_model and not _is_counter(key)
        ),
        reshaped=reshaped,
        converted={
            path: (d, state_of_model)
            for path, (d, state_of_model) in dtypes.items()
            if d not in (None, state_of_model)
        },
        unlabelled=unlabelled,
    )


def _is_counter(key: str) -> bool:
    return key.rpartition(".")[2] == "num_batches_tracked"


def fake_quant_keys(keys: Collection[str]) -> set[str]:
    """Those of a state dict's keys that belong to a fake-quant, whatever it is called: a custom
    module names its own."""
    switch = ".fake_quant_enabled"
    paths = {key.removesuffix(switch) for key in keys if key.endswith(switch)}
    return {key for key in keys if not paths.isdisjoint(accumulate(key.split("."), "{}.{}".format))}


def _observers(fake_quants: Collection[str]) -> dict[str, set[str]]:
    """Path of each fake-quant's observer -> its keys. fake_quants: keys of fake-quants."""
    keys_of: dict[str, set[str]] = {}
    for key in fake_quants:
        owner, _, _ = key.rpartition(".")
        if owner.endswith(f".{OBSERVER}"):
            keys_of.setdefault(owner, set()).add(key)
    return keys_of


def _dtypes(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, tuple[str | None, str]]:
    """Path of each enabled fake-quant that `state` has a scale for -> (dtype there, dtype here)."""
    return {
        path: (dtype_of(state.get(f"{path}.quant_range")), module.qspec.dtype)
        for path, module in model.named_modules()
        if isinstance(module, FakeQuantize) and not module.disabled and f"{path}.scale" in state
    }


def _copies(model: nn.Module) -> dict[str, str]:
    """Absolute path of each copied module -> that of the module it was copied from."""
    prefixes = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for copied, source in getattr(module, "copied_convs", {}).items():
            prefixes[prefix + copied] = prefix + source
    return prefixes
