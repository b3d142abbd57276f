"""Stages of a prepared model: which fake-quants observe, which quantize, which scales change."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from torch import nn

from qatspec.diag.codes import QS605
from qatspec.diag.words import quote_list
from qatspec.graph.calibrated import calibration_warnings
from qatspec.graph.prepared import Prepared
from qatspec.graph.weights import require_usable, seed_weights
from qatspec.process import garbage_kept
from qatspec.quant.fake_quant import FakeQuantize, FixedActivationFakeQuantize
from qatspec.quant.learned import clamp_scales
from qatspec.quant.modules import is_weight_quantized

Stage = Literal["calibration", "qat", "eval"]


@garbage_kept()
def set_stage(prepared: Prepared, stage: Stage) -> None:
    """Switch the model to a stage.

    prepared     what `prepare` gave; changed in place.
    stage        one of these three:
    calibration  eval mode; activations are observed, nothing is quantized, weights stay as they
                 are.
    qat          train mode; everything is quantized; scales change as each qconfig says (fixed ones
                 do not); weight scales that were never set are set from the weights.
    eval         eval mode; everything is quantized, nothing changes.

    Raises DiagnosticError for qat and eval: QS605 where a fixed scale was never observed (for eval,
    where any scale was not), and QS609, QS610, QS705 where weights, activations or scales are not
    finite. When it leaves calibration, warnings QS614 and QS615 are added to `prepared.warnings`.
    """
    model = prepared.model
    modules = list(model.named_modules())
    weights = _of_weights(module for _, module in modules)
    activations = [
        (name, module)
        for name, module in modules
        if isinstance(module, FakeQuantize) and module not in weights
    ]
    if prepared.stage == "qat":
        clamp_scales(model)
    for _, fake_quant in activations:
        fake_quant.settle()
    if stage != "calibration":
        require_usable(prepared)
        _require_ranges(activations, stage)
        seed_weights(model)
    if stage != "calibration" and prepared.stage == "calibration":
        prepared.warnings = tuple(
            dict.fromkeys((*prepared.warnings, *calibration_warnings(prepared)))
        )
    for _, fake_quant in activations:
        moving = not isinstance(fake_quant, FixedActivationFakeQuantize)
        # A learned scale takes its first training batch's where it has none, then moves by itself.
        if stage == "calibration":
            fake_quant.not_finite.zero_()
        fake_quant.calibrating = stage == "calibration"
        fake_quant.enable_fake_quant(stage != "calibration")
        fake_quant.enable_observer(stage == "calibration" or (stage == "qat" and moving))
    for fake_quant in weights:
        fake_quant.calibrating = False
        fake_quant.enable_fake_quant(stage != "calibration")
        fake_quant.enable_observer(stage == "qat")
    model.train(stage == "qat")
    prepared.stage = stage


def weight_fake_quants(model: nn.Module) -> dict[FakeQuantize, None]:
    """Return the fake-quants of weights, in module order."""
    return _of_weights(model.modules())


def _of_weights(modules: Iterable[nn.Module]) -> dict[FakeQuantize, None]:
    return {
        m.weight_fake_quant: None  # type: ignore[misc]
        for m in modules
        if is_weight_quantized(m)
    }


def _require_ranges(activations: list[tuple[str, FakeQuantize]], stage: Stage) -> None:
    missing = [
        name
        for name, fake_quant in activations
        if not fake_quant.disabled
        and not fake_quant.observed
        and (stage == "eval" or isinstance(fake_quant, FixedActivationFakeQuantize))
    ]
    if missing:
        raise QS605.error(
            f"{len(missing)} activation scales were never observed: {quote_list(missing)}",
            help="start from a calibration checkpoint, or use the qconfig `horizon_qat`",
        )
