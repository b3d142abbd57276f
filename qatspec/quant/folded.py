"""The quantized weight of a fold: one function with gradients in closed form.

Written out op by op, a fold costs a dozen passes over the weight in the backward alone. With
v = w f, an integer step s and the straight-through estimator (1 inside the range, else 0):

    folded      Q(v)        d/dw = m f     d/df = sum of m w over a channel
    unfolded    Q(v) / f    d/dw = m       d/df = sum of (m w - Q(v) / f) / f

where m is the incoming gradient, masked by the estimator (in the last sum the second term has the
unmasked one).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qatspec.quant.fake_quant import FakeQuantize, straight_through_bounds
from qatspec.quant.geometry import Geometry


def quantize_folded(
    geometry: Geometry, weight: Tensor, factor: Tensor, fake_quant: FakeQuantize, *, unfold: bool
) -> Tensor:
    """Quantize `weight` times `factor`; observe it first where the fake-quant observes.

    weight: float32 in its own layout. factor: (out,), not 0. unfold: divide the result by the
    factor again. Returns a tensor of the weight's shape.
    """
    if not is_folded_at_once(fake_quant):
        along = geometry.per_channel(factor, weight)
        quantized = geometry.fake_quantize(weight * along, fake_quant)
        return quantized / along if unfold else quantized
    with torch.no_grad():
        folded = weight * geometry.per_channel(factor, weight)
        if fake_quant.observes:
            geometry.observe(folded, fake_quant)
    result: Tensor = _Folded.apply(  # type: ignore[no-untyped-call]
        weight, factor, folded, fake_quant.scale, geometry, fake_quant.qspec, unfold
    )
    return result


def is_folded_at_once(fake_quant: FakeQuantize) -> bool:
    """Return whether the function below quantizes, and no forward of the fake-quant runs."""
    return fake_quant.fake_quant_on and not fake_quant.learned


class _Folded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        weight: Tensor,
        factor: Tensor,
        folded: Tensor,
        scale: Tensor,
        geometry: Geometry,
        qspec: Any,
        unfold: bool,
    ) -> Tensor:
        # A fold that is called again before the backward moves its scale in place.
        steps = geometry.per_channel(scale.expand(factor.shape).clone(), weight)
        result = torch.div(folded, steps).round_().clamp_(qspec.qmin, qspec.qmax)
        result.mul_(steps / geometry.per_channel(factor, weight) if unfold else steps)
        ctx.save_for_backward(weight, factor, steps, *([result] if unfold else []))
        ctx.geometry, ctx.qspec = geometry, qspec
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        weight, factor, steps, *unfolded = ctx.saved_tensors
        geometry, grad = ctx.geometry, grads[0]
        along = geometry.per_channel(factor, weight)
        quotient = (weight * along).div_(steps)
        bounds = straight_through_bounds(ctx.qspec.qmin, ctx.qspec.qmax)
        masked = torch.ops.aten.hardtanh_backward(grad, quotient, *bounds)
        to_factor = None
        if ctx.needs_input_grad[1]:
            products = torch.mul(masked, weight, out=quotient)
            for result in unfolded:
                products.addcmul_(grad, result, value=-1)
            to_factor = geometry.sum_per_channel(products)
            to_factor = to_factor / factor if unfolded else to_factor
        to_weight = masked if unfolded else masked.mul_(along)
        return to_weight, to_factor, None, None, None, None, None
