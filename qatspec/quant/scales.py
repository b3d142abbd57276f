"""The scales of a model's fake-quants as numbers, for histories and reports."""

from __future__ import annotations

from torch import nn

from qatspec.quant.fake_quant import FakeQuantize


def scales_of(model: nn.Module) -> dict[str, float | list[float]]:
    """The present scale of every fake-quant that quantizes, by its path in `model`.

    Returns a number, or [least, median, largest] where each channel has a scale, to nine digits,
    which tell float32 numbers apart. Empty for a float model.
    """
    scales: dict[str, float | list[float]] = {}
    for path, module in model.named_modules():
        if not isinstance(module, FakeQuantize) or module.disabled:
            continue
        ordered = sorted(module.scale.detach().flatten().tolist())
        least, median, largest = (_rounded(ordered[i]) for i in (0, len(ordered) // 2, -1))
        scales[path] = least if len(ordered) == 1 else [least, median, largest]
    return scales


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
