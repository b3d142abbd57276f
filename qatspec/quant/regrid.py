"""Scales of a checkpoint that was made with another dtype than the model's.

A scale alone does not say which range it covers: scale * half range does, and the half range
depends on the dtype. Every fake-quant therefore keeps `quant_range`, (qmin, qmax), beside its
scale, and loading a state dict converts the scale where the two ranges differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from qatspec.registry import registry
from qatspec.types import QSpec
from qatspec.types.qconfig import QRANGE, DType

if TYPE_CHECKING:
    from qatspec.quant.fake_quant import FakeQuantize

#: The smallest scale. A constant or all-zero tensor gets it.
MIN_SCALE = torch.finfo(torch.float32).eps
#: Names of a fake-quant's observer, and of a weight's fake-quant, in their modules.
OBSERVER, WEIGHT = "activation_post_process", "weight_fake_quant"
#: Relative distance below which two computations of one scale agree (they may run on two devices).
_SAME = 1e-5


def dtype_of(quant_range: Tensor | None) -> DType | None:
    """The dtype whose (qmin, qmax) a checkpoint holds; None where it holds no such pair."""
    if quant_range is None or quant_range.numel() != 2 or quant_range.is_floating_point():
        return None
    pair = tuple(quant_range.reshape(-1).tolist())
    return next((cast("DType", d) for d, bounds in QRANGE.items() if bounds == pair), None)


def scale_from(observer: nn.Module, qspec: QSpec) -> Tensor:
    """The scale, (1,) or (channels,), that `observer` finds for `qspec`."""
    amax: Tensor = observer.amax()  # type: ignore[operator]
    return (amax / qspec.half_range).clamp_(min=MIN_SCALE)


def converted(
    fake_quant: FakeQuantize, state: Mapping[str, Tensor], prefix: str
) -> dict[str, Tensor]:
    """What `fake_quant` should load in place of entries of `state`, whose keys begin with `prefix`.

    - `quant_range` stays the fake-quant's own.
    - A scale that the spec fixes (`observer: fixed_scale`) stays as it is, unless it was trained.
    - A scale of another dtype that the checkpoint's observer found is found again for the dtype of
      `fake_quant` (mse, kl and mix clip each dtype elsewhere). A weight's counts as never seen, so
      that the next stage takes it from the weight.
    - Any other scale of another dtype (learned, averaged, of another observer) keeps the range that
      it covers.
    """
    qspec, scale = fake_quant.qspec, state.get(f"{prefix}scale")
    dtype = dtype_of(state.get(f"{prefix}quant_range"))
    range_seen = state.get(f"{prefix}range_seen")
    if scale is None or dtype is None or range_seen is None:
        return {}
    entries = {f"{prefix}quant_range": fake_quant.quant_range.clone()}
    if not bool(range_seen.any()):
        return entries
    theirs, kept = replace(qspec, dtype=dtype), _observer_state(fake_quant, state, prefix)
    if qspec.observer == "fixed_scale":
        untrained = kept is None or _same(kept["max_val"].reshape(-1) / theirs.half_range, scale)
        if untrained or not fake_quant.learned:
            return {**entries, f"{prefix}scale": fake_quant.scale.detach().clone()}
    if dtype == qspec.dtype:
        return entries
    if kept is not None and _same(scale_from(_observer(theirs, scale, kept), theirs), scale):
        scale = scale_from(_observer(qspec, scale, kept), qspec)
        if prefix.endswith(f"{WEIGHT}."):
            entries[f"{prefix}range_seen"] = torch.zeros_like(range_seen)
    else:
        scale = scale * (theirs.half_range / qspec.half_range)
    return {**entries, f"{prefix}scale": scale}


def _observer_state(
    fake_quant: FakeQuantize, state: Mapping[str, Tensor], prefix: str
) -> dict[str, Tensor] | None:
    """The checkpoint's observer, where it has the keys and shapes of the model's."""
    start = f"{prefix}{OBSERVER}."
    kept = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    fresh = getattr(fake_quant, OBSERVER).state_dict()
    fits = kept.keys() == fresh.keys() and all(kept[k].shape == fresh[k].shape for k in fresh)
    return kept if fits and kept else None


def _observer(qspec: QSpec, scale: Tensor, kept: Mapping[str, Tensor]) -> nn.Module:
    """The observer of `qspec` with what another has seen."""
    definition = registry().observer(qspec.observer)
    with registry().attribute_errors(definition, f"building observer `{definition.name}`"):
        built: nn.Module = definition.build(qspec, scale.numel())
        built.load_state_dict(dict(kept))
    return built


def _same(scale: Tensor, other: Tensor) -> bool:
    return scale.shape == other.shape and torch.allclose(
        scale.cpu(), other.detach().cpu(), rtol=_SAME, atol=0.0
    )
