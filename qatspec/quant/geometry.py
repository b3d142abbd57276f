"""Geometry of convolutions and linears: how the weight is applied, and its channel dimension."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.quant.fake_quant import FakeQuantize


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


def _pad(module: nn.modules.conv._ConvNd) -> tuple[int, ...]:
    """The padding before and after each dim, the last dim first, as torch's forward has it. With
    zeros it follows the attributes, which dilated backbones change after `__init__`; what other
    modes pad is fixed by `__init__`."""
    if module.padding_mode != "zeros":
        return tuple(module._reversed_padding_repeated_twice)
    if module.padding == "valid":
        return (0,) * (2 * len(module.kernel_size))
    sides: list[tuple[int, int]] = []
    for dim in reversed(range(len(module.kernel_size))):
        if isinstance(module.padding, str):
            total = module.dilation[dim] * (module.kernel_size[dim] - 1)
            sides.append((total // 2, total - total // 2))
        else:
            sides.append((module.padding[dim],) * 2)
    return tuple(amount for side in sides for amount in side)


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
        """The geometry of a torch conv or linear module, or of a module that has one."""
        geometry = getattr(module, "geometry", None)
        if isinstance(geometry, Geometry):
            return geometry
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
            pad=_pad(module),
        )

    @property
    def transposed(self) -> bool:
        """Whether the layout of the weight is (in, out / groups, ...)."""
        return self.op.startswith("conv_transpose")

    def channels(self, shape: Sequence[int]) -> int:
        """Output channels of a weight of `shape`."""
        return shape[1] * self.groups if self.transposed else shape[0]

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

    def sum_per_channel(self, values: Tensor) -> Tensor:
        """Sum a tensor of the weight's shape over each output channel, (out,)."""
        first = _out_first(values, self.groups) if self.transposed else values
        return first.flatten(1).sum(1)

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
