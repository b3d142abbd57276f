"""Modules with quantized weights: what prepare swaps in for convs, linears and folded batch norms.

Parameters and buffers keep the keys that the float model gave them (contracts 20); the only
addition is the child `weight_fake_quant`. Weights are quantized per output channel; transposed
convs are turned to (out, in, ...) for that and back.

The concrete classes mix what is quantized into torch's own; mypy's `misc` complaints there are
about the mixins' narrower `forward` and about attributes that torch declares as optional.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.quant.fake_quant import FakeQuantize

_M = TypeVar("_M", bound=nn.Module)


def _adopt(cls: type[_M], module: nn.Module) -> _M:
    """An instance of `cls` with everything `module` holds: the same parameter and buffer objects
    (ties stay tied), its own tables."""
    new = cls.__new__(cls)
    state = {k: dict(v) if isinstance(v, dict) else v for k, v in vars(module).items()}
    vars(new).update(state)
    return new


def _out_first(weight: Tensor, groups: int) -> Tensor:
    """(I, O/g, ...) of a transposed conv as (O, I/g, ...)."""
    inputs, outputs, *kernel = weight.shape
    split = weight.reshape(groups, inputs // groups, outputs, *kernel)
    return split.transpose(1, 2).reshape(groups * outputs, inputs // groups, *kernel)


def _in_first(weight: Tensor, groups: int) -> Tensor:
    """The way back: (O, I/g, ...) as (I, O/g, ...)."""
    outputs, inputs, *kernel = weight.shape
    split = weight.reshape(groups, outputs // groups, inputs, *kernel)
    return split.transpose(1, 2).reshape(groups * inputs, outputs // groups, *kernel)


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a conv or linear applies a weight. op: canonical name, "conv2d", "linear", ...

    padding is what torch's module holds: a tuple, or "same" / "valid".
    """

    op: str
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] | str = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    output_padding: tuple[int, ...] = ()
    padding_mode: str = "zeros"
    pad: tuple[int, ...] = ()

    @classmethod
    def of(cls, module: nn.Module) -> Geometry:
        """The geometry of a torch conv or linear module."""
        if isinstance(module, nn.Linear):
            return cls("linear")
        assert isinstance(module, nn.modules.conv._ConvNd)
        kind = "conv_transpose" if module.transposed else "conv"
        return cls(
            op=f"{kind}{len(module.kernel_size)}d",
            stride=module.stride,
            padding=module.padding,
            dilation=module.dilation,
            groups=module.groups,
            output_padding=module.output_padding,
            padding_mode=module.padding_mode,
            pad=tuple(module._reversed_padding_repeated_twice),
        )

    @property
    def transposed(self) -> bool:
        """Is the weight (in, out / groups, ...)?"""
        return self.op.startswith("conv_transpose")

    def per_channel(self, values: Tensor, weight: Tensor) -> Tensor:
        """Shape (out,) values so that they multiply `weight` output channel by output channel."""
        ones = [1] * (weight.ndim - 2)
        if self.op == "linear":
            return values.reshape(-1, 1)
        if not self.transposed:
            return values.reshape(-1, 1, *ones)
        if self.groups == 1:
            return values.reshape(1, -1, *ones)
        rows = values.reshape(self.groups, 1, weight.shape[1])
        rows = rows.expand(-1, weight.shape[0] // self.groups, -1)
        return rows.reshape(weight.shape[0], weight.shape[1], *ones)

    def fake_quantize(self, weight: Tensor, fake_quant: FakeQuantize) -> Tensor:
        """Run the weight through its fake-quant, output channels first."""
        if not self.transposed:
            return fake_quant(weight)  # type: ignore[no-any-return]
        return _in_first(fake_quant(_out_first(weight, self.groups)), self.groups)

    def observe(self, weight: Tensor, fake_quant: FakeQuantize) -> None:
        """Let the fake-quant see the weight, output channels first."""
        fake_quant.observe(_out_first(weight, self.groups) if self.transposed else weight)

    def quantize(self, weight: Tensor, fake_quant: FakeQuantize) -> Tensor:
        """The weight's integers, in the weight's own layout."""
        if not self.transposed:
            return fake_quant.quantize(weight)
        return _in_first(fake_quant.quantize(_out_first(weight, self.groups)), self.groups)

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The conv or linear itself."""
        if self.op == "linear":
            return F.linear(x, weight, bias)
        if self.transposed:
            return getattr(F, self.op)(  # type: ignore[no-any-return]
                x, weight, bias, self.stride, self.padding, self.output_padding, self.groups,
                self.dilation,
            )  # fmt: skip
        padding: Any = self.padding
        if self.padding_mode != "zeros":
            x, padding = F.pad(x, self.pad, mode=self.padding_mode), 0
        return getattr(F, self.op)(  # type: ignore[no-any-return]
            x, weight, bias, self.stride, padding, self.dilation, self.groups
        )


class QuantWeight(nn.Module):
    """What the quantized conv and linear modules share; mixed into the torch class."""

    weight: Tensor
    bias: Tensor | None
    geometry: Geometry
    weight_fake_quant: FakeQuantize

    @property
    def canonical_op(self) -> str:
        """What the module computes, for `canonical_op`."""
        return self.geometry.op

    def folded(self) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) in float32 as eval uses them, before quantization."""
        return self.weight, self.bias

    def quantized_weight(self) -> tuple[Tensor, Tensor]:
        """(integers in the weight's layout, scale float32 (out,))."""
        integers = self.geometry.quantize(self.weight.detach(), self.weight_fake_quant)
        return integers, _scale(self.weight_fake_quant, self.geometry, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.geometry.fake_quantize(self.weight, self.weight_fake_quant)
        return self.geometry.apply(x, weight, self.bias)


def _scale(fake_quant: FakeQuantize, geometry: Geometry, weight: Tensor) -> Tensor:
    """The weight's scale as (out,), whether it is per tensor or per channel."""
    channels = weight.shape[1] * geometry.groups if geometry.transposed else weight.shape[0]
    return fake_quant.scale.detach().expand(channels).clone()


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


class QuantFold(nn.Module):
    """A batch norm with the conv or linear before it folded in; mixed into the torch class.

    Stands at the batch norm's path and holds its parameters and buffers; the conv's weight and
    bias come as inputs, so that a conv shared by several batch norms keeps one weight. Training
    follows Jacob et al. 2018, section 3.2: the weight is quantized with the running statistics
    folded in, the batch is normalized by its own.

    frozen  use and keep the running statistics while training.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float
    geometry: Geometry
    weight_fake_quant: FakeQuantize
    frozen: bool

    @property
    def canonical_op(self) -> str:
        """What the module computes, for `canonical_op`."""
        return self.geometry.op

    def _factor(self) -> Tensor:
        """gamma / running_std, (out,)."""
        deviation = torch.sqrt(self.running_var + self.eps)
        return deviation.reciprocal() if self.weight is None else self.weight / deviation

    def folded(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """(weight, bias) with the running statistics folded in, float32, before quantization."""
        factor = self._factor()
        centre = -self.running_mean if bias is None else bias - self.running_mean
        shift = centre * factor
        if self.bias is not None:
            shift = shift + self.bias
        return weight * self.geometry.per_channel(factor, weight), shift

    def quantized_weight(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
        """(integers of the folded weight in the conv's layout, scale float32 (out,))."""
        folded = self.folded(weight.detach(), None)[0].detach()
        integers = self.geometry.quantize(folded, self.weight_fake_quant)
        return integers, _scale(self.weight_fake_quant, self.geometry, weight)

    def forward(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        geometry = self.geometry
        if not self.training or self.frozen:
            weight, bias = self.folded(weight, bias)
            return geometry.apply(x, geometry.fake_quantize(weight, self.weight_fake_quant), bias)
        # Undoing the factor on the weight instead of the output is the same number and costs no
        # pass over the activations. A channel with gamma == 0 is quantized unfolded: its output
        # is beta whatever the weight, and 0 / 0 would be NaN.
        factor = self._factor()
        factor = geometry.per_channel(torch.where(factor == 0, 1.0, factor), weight)
        weight = geometry.fake_quantize(weight * factor, self.weight_fake_quant) / factor
        return super().forward(geometry.apply(x, weight, bias))  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, fold={self.geometry.op}"


class QuantConvBn1d(QuantFold, nn.BatchNorm1d):  # type: ignore[misc]
    """conv1d or linear + nn.BatchNorm1d."""


class QuantConvBn2d(QuantFold, nn.BatchNorm2d):  # type: ignore[misc]
    """conv2d or conv_transpose2d + nn.BatchNorm2d."""


class QuantConvBn3d(QuantFold, nn.BatchNorm3d):  # type: ignore[misc]
    """conv3d or conv_transpose3d + nn.BatchNorm3d."""


class QuantConvSyncBn(QuantFold, nn.SyncBatchNorm):  # type: ignore[misc]
    """Any conv + nn.SyncBatchNorm."""


_SWAPS: dict[type[nn.Module], type[QuantWeight]] = {
    nn.Conv1d: QuantConv1d,
    nn.Conv2d: QuantConv2d,
    nn.Conv3d: QuantConv3d,
    nn.ConvTranspose1d: QuantConvTranspose1d,
    nn.ConvTranspose2d: QuantConvTranspose2d,
    nn.ConvTranspose3d: QuantConvTranspose3d,
    nn.Linear: QuantLinear,
}
_FOLDS: dict[type[nn.Module], type[QuantFold]] = {
    nn.BatchNorm1d: QuantConvBn1d,
    nn.BatchNorm2d: QuantConvBn2d,
    nn.BatchNorm3d: QuantConvBn3d,
    nn.SyncBatchNorm: QuantConvSyncBn,
}


def quantize_module(module: nn.Module, fake_quant: FakeQuantize) -> QuantWeight:
    """`module` (conv or linear, or a subclass with the same forward) with a quantized weight."""
    for float_class, quantized in _SWAPS.items():
        if isinstance(module, float_class):
            new = _adopt(quantized, module)
            new.geometry = Geometry.of(module)
            new.weight_fake_quant = fake_quant
            return new
    raise TypeError(f"{type(module).__name__} has no quantized form")


def fold_batch_norm(norm: nn.Module, geometry: Geometry, fake_quant: FakeQuantize) -> QuantFold:
    """`norm` (a batch norm with running statistics) with a conv of `geometry` folded in."""
    for float_class, folded in _FOLDS.items():
        if isinstance(norm, float_class):
            new = _adopt(folded, norm)
            new.geometry = geometry
            new.frozen = False
            new.weight_fake_quant = fake_quant
            return new
    raise TypeError(f"{type(norm).__name__} is not a batch norm that folds")


def is_weight_quantized(module: nn.Module) -> bool:
    """Does the module quantize a weight of its own: one of ours, or a class of the spec's?"""
    return isinstance(vars(module).get("_modules", {}).get("weight_fake_quant"), FakeQuantize)


def out_channels(module: nn.Module) -> int:
    """Output channels of a conv or linear module."""
    channels = module.out_features if isinstance(module, nn.Linear) else module.out_channels
    return int(channels)  # type: ignore[arg-type]


def freeze_batch_norm(model: nn.Module, frozen: bool = True) -> None:
    """Keep (or let go) the running statistics of every batch norm, folded or not, while training.

    `model.train()` sets plain batch norms moving again: call this after it.
    """
    for module in model.modules():
        if isinstance(module, QuantFold):
            module.frozen = frozen
        elif isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train(model.training and not frozen)
