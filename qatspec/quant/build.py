"""From a QSpec to a fake-quant module, through the registry's observers."""

from __future__ import annotations

import torch

from qatspec.diag import DiagnosticError
from qatspec.diag.codes import QS601
from qatspec.quant.fake_quant import (
    FakeQuantize,
    FixedActivationFakeQuantize,
    MovingFakeQuantize,
    is_usable_scale,
)
from qatspec.quant.learned import LsqFakeQuantize, PactFakeQuantize
from qatspec.quant.regrid import MIN_SCALE
from qatspec.registry import registry
from qatspec.types import QSpec

_CLASSES: dict[str, type[FakeQuantize]] = {
    "fixed": FixedActivationFakeQuantize,
    "moving": MovingFakeQuantize,
    "lsq": LsqFakeQuantize,
    "pact": PactFakeQuantize,
}
_PER_TENSOR_ONLY = ("kl", "mix")


def build_fake_quant(qspec: QSpec, channels: int = 1, at: str = "") -> FakeQuantize:
    """The fake-quant module that `qspec` describes.

    channels: output channels of the weight when qspec.ch_axis is 0. at: pointer of the rule.
    Raises DiagnosticError: QS301 for an unknown observer, QS601 for a combination that does not
    exist.
    """
    if qspec.ch_axis not in (None, 0):
        raise _error(
            at,
            f"ch_axis {qspec.ch_axis} is not an output channel axis",
            "use `ch_axis: 0` for weights and leave it out for activations",
        )
    if qspec.ch_axis == 0 and qspec.observer in _PER_TENSOR_ONLY:
        raise _error(
            at,
            f"observer `{qspec.observer}` keeps one range a tensor, not one a channel",
            "use `min_max`, `moving_average`, `percentile` or `mse` for per-channel weights",
        )
    if qspec.observer == "fixed_scale" and qspec.scale is None:
        raise _error(at, "observer `fixed_scale` has no scale", "add `scale: <number>`")
    scale = None if qspec.scale is None else torch.tensor(qspec.scale)
    if scale is not None and not (is_usable_scale(scale, qspec.qmax) and scale >= MIN_SCALE):
        raise _error(
            at,
            f"scale {qspec.scale:g} cannot be used",
            f"give a finite scale of at least {MIN_SCALE:.3g}",
        )
    definition = registry().observer(qspec.observer, at)
    with registry().attribute_errors(definition, f"building observer `{definition.name}`"):
        observer = definition.build(qspec, channels)
    return _CLASSES[qspec.fake_quant](qspec, observer, channels)


def _error(at: str, message: str, help_: str) -> DiagnosticError:
    return QS601.error(message, help=help_, at=at or None)
