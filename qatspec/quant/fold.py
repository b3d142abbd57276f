"""Batch norms with the conv or linear before them folded in.

A fold stands at the batch norm's path (ADR 0004); the conv's weight and bias come as inputs, so
that a conv shared by several batch norms keeps one weight. Training follows Jacob et al. 2018,
section 3.2: the weight is quantized with the running statistics folded in, the batch is normalized
by its own.

mypy's `misc` complaints about the concrete classes are those of `quant.modules`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.folded import is_folded_at_once, quantize_folded
from qatspec.quant.functional import FunctionalNorm
from qatspec.quant.geometry import Geometry
from qatspec.quant.kept import folded_once, forget
from qatspec.quant.modules import QuantOp, adopt


class QuantFold(QuantOp):
    """A batch norm with the conv or linear before it folded in; mixed into the batch norm's class.

    Its operands are the conv's weight and bias, then those of the batch norm itself (none where it
    is a module).

    frozen  use and keep the running statistics while training.
    """

    weight: Tensor | None
    bias: Tensor | None
    running_mean: Tensor
    running_var: Tensor
    eps: float
    frozen: bool

    def train(self, mode: bool = True) -> QuantFold:
        # Here and not in `forward`, which is compiled: torch.compile would guard on every model
        # whose weights are kept, also on those that are freed meanwhile.
        if mode:
            forget(self)
        super().train(mode)
        return self

    def norm(self, *operands: Tensor | None) -> tuple[Tensor | None, ...]:
        """(mean, variance, gamma, beta)."""
        return self.running_mean, self.running_var, self.weight, self.bias

    def _factor(self, *operands: Tensor | None) -> Tensor:
        """gamma / running_std, (out,)."""
        _, variance, gamma, _ = self.norm(*operands)
        assert variance is not None
        deviation = torch.sqrt(variance + self.eps)
        return deviation.reciprocal() if gamma is None else gamma / deviation

    def folded(self, *operands: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """(weight, bias) with the running statistics folded in, float32, before quantization."""
        weight, bias, *norm = operands
        assert weight is not None
        factor = self._factor(*norm)
        shift = self._shift(factor, bias, *norm)
        return weight * self.geometry.per_channel(factor, weight), shift

    def _shift(self, factor: Tensor, bias: Tensor | None, *norm: Tensor | None) -> Tensor:
        """The bias with the running statistics folded in, (out,)."""
        mean, _, _, beta = self.norm(*norm)
        assert mean is not None
        shift = (-mean if bias is None else bias - mean) * factor
        return shift if beta is None else shift + beta

    def forward(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, *norm: Tensor | None
    ) -> Tensor:
        geometry, fake_quant = self.geometry, self.weight_fake_quant
        if not (self.training or fake_quant.observes) and is_folded_at_once(fake_quant):
            of = (weight, bias, *self.norm(*norm), fake_quant.scale)
            return self.multiply(
                x, *folded_once(self, x, of, lambda: self._quantized(weight, bias, *norm))
            )
        if not self.training or self.frozen:
            return self.multiply(x, *self._quantized(weight, bias, *norm))
        factor = self._factor(*norm)
        # Undoing the factor on the weight instead of the output is the same number and costs no
        # pass over the activations. A channel with gamma == 0 is quantized unfolded: its output
        # is beta whatever the weight, and 0 / 0 would be NaN.
        factor = torch.where(factor == 0, 1.0, factor)
        weight = quantize_folded(geometry, weight, factor, fake_quant, unfold=True)
        y = self.multiply(x, weight, bias, factor)
        return super().forward(y, *norm)  # type: ignore[no-any-return]

    def _quantized(
        self, weight: Tensor, bias: Tensor | None, *norm: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """(weight, bias) with the running statistics folded in, the weight quantized."""
        factor = self._factor(*norm)
        quantized = quantize_folded(
            self.geometry, weight, factor, self.weight_fake_quant, unfold=False
        )
        return quantized, self._shift(factor, bias, *norm)

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


class QuantConvFunctionalBn(QuantFold, FunctionalNorm):  # type: ignore[misc]
    """Any conv or linear + F.batch_norm."""

    def norm(self, *operands: Tensor | None) -> tuple[Tensor | None, ...]:
        mean, variance, *affine = operands
        return (mean, variance, *affine, None, None)[:4]


_FOLDS: dict[type[nn.Module], type[QuantFold]] = {
    nn.BatchNorm1d: QuantConvBn1d,
    nn.BatchNorm2d: QuantConvBn2d,
    nn.BatchNorm3d: QuantConvBn3d,
    nn.SyncBatchNorm: QuantConvSyncBn,
    FunctionalNorm: QuantConvFunctionalBn,
}


def fold_batch_norm(norm: nn.Module, geometry: Geometry, fake_quant: FakeQuantize) -> QuantFold:
    """`norm` (a batch norm with running statistics) with a conv of `geometry` folded in."""
    for float_class, folded in _FOLDS.items():
        if isinstance(norm, float_class):
            new = adopt(folded, norm)
            new.geometry = geometry
            new.frozen = False
            new.weight_fake_quant = fake_quant
            return new
    raise TypeError(f"{type(norm).__name__} is not a batch norm that folds")


def freeze_batch_norm(model: nn.Module, frozen: bool | Callable[[str], bool] = True) -> None:
    """Keep (or let go) the running statistics of batch norms, folded or not, while training.

    frozen: of every batch norm; or a function that returns it for the name of one.
    `model.train()` sets plain batch norms moving again: call this after it.
    """
    for name, module in model.named_modules():
        kept = frozen if isinstance(frozen, bool) else frozen(name)
        if isinstance(module, QuantFold):
            module.frozen = kept
        elif is_batch_norm(module):
            module.train(model.training and not kept)


def is_batch_norm(module: nn.Module) -> bool:
    """Return whether `module` has running statistics of a batch norm."""
    return isinstance(module, (QuantFold, nn.modules.batchnorm._BatchNorm, FunctionalNorm))
