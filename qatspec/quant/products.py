"""Products of quantized layers in bfloat16 or float16, for training in mixed precision.

A value on a grid is an integer times a scale, which neither format holds: rounding it would move
the value off the grid. The integers themselves fit (bfloat16 has 8 significant bits, float16 11),
and so does an integer times a power of two. The scale is therefore split into a power of two, which
stays in the operand and keeps its magnitude, and a mantissa, by which the result of the product is
multiplied in float32. Products are exact, and torch accumulates them in float32.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.geometry import Geometry

#: Largest integer up to which a dtype holds every one.
_EXACT = {torch.bfloat16: 1 << 8, torch.float16: 1 << 11}


@dataclass(frozen=True, slots=True)
class Products:
    """The format in which a quantized layer multiplies.

    dtype   torch.bfloat16 or torch.float16.
    source  the fake-quant that the layer's input comes from.
    """

    dtype: torch.dtype
    source: FakeQuantize

    def fit(self, weight: FakeQuantize) -> bool:
        """Return whether input and weight are on grids now, with integers that the format holds."""
        return all(
            one.fake_quant_on and max(one.qspec.qmax, -one.qspec.qmin) <= _EXACT[self.dtype]
            for one in (self.source, weight)
        )

    def apply(
        self, geometry: Geometry, x: Tensor, weight: Tensor, bias: Tensor | None, step: Tensor
    ) -> Tensor:
        """`geometry.apply` of float32 tensors on their grids, with a float32 result.

        step: the distance of the weight's levels, (1,) or (out,).
        """
        of_x, of_weight = _mantissa(self.source.scale), _mantissa(step)
        channels = of_weight.expand(geometry.channels(weight.shape))
        integers = (weight / geometry.per_channel(channels, weight)).to(self.dtype)
        y = geometry.apply((x / of_x).to(self.dtype), integers, None)
        along = [1] * (0 if geometry.op == "linear" else weight.ndim - 2)
        y = y * (of_x * of_weight).reshape(-1, *along)
        return y if bias is None else y + bias.reshape(-1, *along)


@torch.no_grad()
def _mantissa(scale: Tensor) -> Tensor:
    """scale / 2**n in [0.5, 1)."""
    return torch.frexp(scale.detach()).mantissa
