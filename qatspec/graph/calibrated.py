"""What a calibration shows to be doubtful, though every number is finite."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from torch import nn

from qatspec.diag import Diagnostic, Span
from qatspec.diag.codes import QS614, QS615
from qatspec.diag.words import quote_list
from qatspec.graph.prepared import Prepared
from qatspec.graph.source import line_span
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import is_weight_quantized
from qatspec.quant.regrid import MIN_SCALE


def calibration_warnings(prepared: Prepared) -> list[Diagnostic]:
    """Warnings for a model whose activations have scales: QS614 where an activation was 0 in every
    batch, QS615 where scales were observed behind batch norms that have no statistics."""
    weights = {m.weight_fake_quant for m in prepared.model.modules() if is_weight_quantized(m)}
    calibrated = {
        path: module
        for path, module in prepared.model.named_modules()
        if isinstance(module, FakeQuantize)
        and module not in weights
        and not module.disabled
        and module.observed
        and module.qspec.scale is None
    }
    if not calibrated:
        return []
    return [*_zero(prepared, calibrated), *_untrained_norms(prepared.model)]


def _zero(prepared: Prepared, calibrated: Mapping[str, FakeQuantize]) -> Iterator[Diagnostic]:
    """The first activation, in the order of the graph, whose scale is the smallest there is."""
    zero = [path for path, module in calibrated.items() if (module.scale <= MIN_SCALE).all()]
    if not zero:
        return
    what, span = first_fed(prepared, zero)
    more = f", and {len(zero) - 1} more activations" if len(zero) > 1 else ""
    yield QS614.warning(
        f"in calibration, {what} was 0 in every batch{more}: its scale is {MIN_SCALE:.2g}, which "
        "clips every other number",
        help="look at the calibration data (black pictures, a wrong factor) or at the op, then "
        "calibrate again",
        span=span,
    )


def first_fed(prepared: Prepared, fake_quants: Sequence[str]) -> tuple[str, Span | None]:
    """What the first of `fake_quants` in the order of the graph was fed, in words, and its line."""
    decided = [d for d in prepared.decisions.values() if d.fake_quant in fake_quants]
    if not decided:
        return f"what fake-quant `{fake_quants[0]}` was fed", None
    first = decided[0]
    name = first.module or first.node.removeprefix(":")
    what = f"the input `{name}`" if first.op == "placeholder" else f"the result of `{name}`"
    return what, line_span(first.source)


def _untrained_norms(model: nn.Module) -> Iterator[Diagnostic]:
    fresh = [
        path
        for path, module in model.named_modules()
        if isinstance(module, nn.modules.batchnorm._NormBase) and _is_fresh(module)
    ]
    if fresh:
        who = "a batch norm has" if len(fresh) == 1 else f"{len(fresh)} batch norms have"
        yield QS615.warning(
            f"{who} the statistics of a new one (mean 0, variance 1): {quote_list(fresh)}",
            help="load the weights of a trained model, or run the model in train mode on data, "
            "before you prepare and calibrate it",
        )


def _is_fresh(norm: nn.modules.batchnorm._NormBase) -> bool:
    """Whether a norm never saw a batch and took no statistics from a file."""
    mean, variance, count = norm.running_mean, norm.running_var, norm.num_batches_tracked
    if mean is None or variance is None or (count is not None and bool(count.item())):
        return False
    return not bool(mean.any()) and bool((variance == 1).all())
