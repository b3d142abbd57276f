"""Modules with quantized weights: what prepare swaps in for convs and linears.

Parameters and buffers keep the keys that the float model gave them (rule: constant keys); the only
addition is the child `weight_fake_quant`. Weights are quantized per output channel.

The concrete classes mix what is quantized into torch's own; mypy's `misc` complaints there are
about the mixins' narrower `forward` and about attributes that torch declares as optional.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from qatspec.quant.computed import with_computed
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.functional import FunctionalConv
from qatspec.quant.geometry import Geometry
from qatspec.quant.products import Products

_M = TypeVar("_M", bound=nn.Module)


def adopt(cls: type[_M], module: nn.Module) -> _M:
    """An instance of `cls` with everything `module` holds: the same parameter and buffer objects
    (ties stay tied), its own tables, and the same computed tensors."""
    new = cls.__new__(cls)
    state = {k: v.copy() if isinstance(v, dict) else v for k, v in vars(module).items()}
    vars(new).update(state)
    rebind_hooks(new)
    return with_computed(new, module)


def rebind_hooks(new: nn.Module) -> None:
    """Let hooks on loading that are passed their module be passed `new`, which took the tables of
    another module over: they refer to that one weakly."""
    hooks = new._load_state_dict_pre_hooks
    for key, hook in hooks.items():
        if getattr(hook, "with_module", False):
            rebound: Any = type(hook)
            hooks[key] = rebound(hook.hook, new)  # type: ignore[attr-defined]


class QuantOp(nn.Module):
    """An op that quantizes a weight. The weight and all that is folded into it are the module's
    own, or come as inputs behind x: the `operands` below, as the module's graph node has them.

    products  the format of multiplications in training; None: float32."""

    geometry: Geometry
    weight_fake_quant: FakeQuantize
    products: Products | None = None

    @property
    def canonical_op(self) -> str:
        """What the module computes, for `canonical_op`."""
        return self.geometry.op

    def folded(self, *operands: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) in float32 as eval uses them, before quantization."""
        raise TypeError(f"{type(self).__name__} has no weight")

    def quantized_weight(self, *operands: Tensor | None) -> tuple[Tensor, Tensor]:
        """(integers in the weight's layout, scale float32 (out,))."""
        with torch.no_grad():
            weight = self.folded(*operands)[0]
            integers = self.geometry.quantize(weight, self.weight_fake_quant)
            scale = self.weight_fake_quant.scale
            return integers, scale.expand(self.geometry.channels(weight.shape)).clone()

    def multiply(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, factor: Tensor | None = None
    ) -> Tensor:
        """Apply a quantized weight. factor: what it was divided by after quantization, (out,)."""
        products, fake_quant = self.products, self.weight_fake_quant
        if products is None or not self.training or not products.fit(fake_quant):
            return self.geometry.apply(x, weight, bias)
        step = fake_quant.scale if factor is None else fake_quant.scale / factor
        return products.apply(self.geometry, x, weight, bias, step)

    def seed(self, *operands: Tensor | None) -> None:
        """Take the weight's scale from the weight itself."""
        with torch.no_grad():
            self.geometry.observe(self.folded(*operands)[0], self.weight_fake_quant)


class QuantWeight(QuantOp):
    """What the quantized conv and linear modules share; mixed into the torch class."""

    weight: Tensor
    bias: Tensor | None

    def folded(self, *operands: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return self.weight, self.bias

    def forward(self, x: Tensor) -> Tensor:
        weight = self.geometry.fake_quantize(self.weight, self.weight_fake_quant)
        return self.multiply(x, weight, self.bias)


class QuantCall(QuantOp, FunctionalConv):
    """A functional conv or linear with a quantized weight."""

    def folded(self, *operands: Tensor | None) -> tuple[Tensor, Tensor | None]:
        weight, bias = operands
        assert weight is not None
        return weight, bias

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        weight = self.geometry.fake_quantize(weight, self.weight_fake_quant)
        return self.multiply(x, weight, bias)


class QuantConv1d(QuantWeight, nn.Conv1d):
    """nn.Conv1d with a quantized weight."""


class QuantConv2d(QuantWeight, nn.Conv2d):
    """nn.Conv2d with a quantized weight."""


class QuantConv3d(QuantWeight, nn.Conv3d):
    """nn.Conv3d with a quantized weight."""


class QuantConvTranspose1d(QuantWeight, nn.ConvTranspose1d):  # type: ignore[misc]
    """nn.ConvTranspose1d with a quantized weight."""


class QuantConvTranspose2d(QuantWeight, nn.ConvTranspose2d):  # type: ignore[misc]
    """nn.ConvTranspose2d with a quantized weight."""


class QuantConvTranspose3d(QuantWeight, nn.ConvTranspose3d):  # type: ignore[misc]
    """nn.ConvTranspose3d with a quantized weight."""


class QuantLinear(QuantWeight, nn.Linear):  # type: ignore[misc]
    """nn.Linear with a quantized weight."""


_SWAPS: dict[type[nn.Module], type[QuantOp]] = {
    nn.Conv1d: QuantConv1d,
    nn.Conv2d: QuantConv2d,
    nn.Conv3d: QuantConv3d,
    nn.ConvTranspose1d: QuantConvTranspose1d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
    nn.ConvTranspose3d: QuantConvTranspose3d,
    nn.Linear: QuantLinear,
    FunctionalConv: QuantCall,
}


def quantize_module(module: nn.Module, fake_quant: FakeQuantize) -> QuantOp:
    """`module` (a conv or linear, or a subclass with the same forward) with a quantized weight."""
    for float_class, quantized in _SWAPS.items():
        if isinstance(module, float_class):
            new = adopt(quantized, module)
            new.geometry = Geometry.of(module)
            new.weight_fake_quant = fake_quant
            return new
    raise TypeError(f"{type(module).__name__} has no quantized form")


def as_quant_op(module: nn.Module | None) -> QuantOp | None:
    """`module` as one of ours: itself, or, for a subclass of torch's conv or linear with a
    `weight_fake_quant`, the quantized form with the same weight; None for anything else.

    What a subclass computes is its own affair: compare it with its form.
    """
    if isinstance(module, QuantOp) or module is None:
        return module
    if not is_weight_quantized(module) or not isinstance(module, tuple(_SWAPS)):
        return None
    fake_quant: Any = module.weight_fake_quant
    return quantize_module(module, fake_quant)


def is_weight_quantized(module: nn.Module) -> bool:
    """Return whether the module quantizes its own weight: one of qatspec's, or a class of the
    spec."""
    return isinstance(vars(module).get("_modules", {}).get("weight_fake_quant"), FakeQuantize)
