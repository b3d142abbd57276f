"""The tutorial's advice on the inputs of a model, measured on one batch of the training."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from qatspec.source.pointer import join
from qatspec.spec import InputSpec
from qatspec.spec.advice import Advice
from qatspec.stages.context import Context
from qatspec.train.loader import Batch
from qatspec.train.samples import Inputs

#: A mean beyond this many standard deviations is not near 0.
_SHIFTED = 1.0
#: Excess kurtosis of a distribution that is long-tailed: a Laplace distribution has 3.
_LONG_TAILED = 8.0


def advise_on_inputs(context: Context) -> list[Advice]:
    """Measure a batch of data.qat as the model takes it.

    Returns advice for pictures and other float inputs whose mean is not near 0, or whose
    distribution has a long tail: most integers of their scale would go unused.
    """
    loader = replace(context.loader("qat"), workers=0)
    return of_batch(context.inputs, next(iter(loader.shuffled(0))))


def of_batch(inputs: Inputs, batch: Batch) -> list[Advice]:
    """The advice on a batch. inputs: what the spec says of each of its tensors."""
    advice = []
    for (name, wanted), values in zip(inputs.items(), batch.inputs, strict=True):
        if values.is_floating_point() and values.numel() > 1:
            at = wanted.at
            key = join(at, "mean") if isinstance(wanted, InputSpec) else at
            advice += _of_values(values, name or "image", key)
    return advice


def _of_values(values: Tensor, name: str, at: str) -> list[Advice]:
    numbers = values.double().flatten()
    mean, deviation = float(numbers.mean()), float(numbers.std())
    if not deviation:
        return []
    kurtosis = float(((numbers - mean) / deviation).pow(4).mean()) - 3
    advice = []
    if abs(mean) > _SHIFTED * deviation:
        advice.append(
            Advice(
                at,
                f"normalise input `{name}` to a mean of 0 (a batch has {mean:.3g}, with a standard "
                f"deviation of {deviation:.3g})",
                "scales are symmetric: numbers on one side of 0 leave half of the integers unused",
            )
        )
    if kurtosis > _LONG_TAILED:
        advice.append(
            Advice(
                at,
                f"give input `{name}` a distribution without a long tail (a batch has an excess "
                f"kurtosis of {kurtosis:.1f}; a bell curve has 0)",
                "the few large numbers set the scale, and all others share few integers",
            )
        )
    return advice
