"""`model.input`: how pictures become the model's input, said once and taken over by data sets and
files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS616, QS617
from qatspec.source.pointer import split
from qatspec.spec.model import InputSpec, ModuleQuant, Spec

#: The largest level of a pixel.
_WHITE = 255
_INT8 = (-128, 127)


def per_channel(value: float | Sequence[float], channels: int) -> tuple[float, ...]:
    """`mean` or `std` with one number for each channel."""
    return tuple(value) if isinstance(value, Sequence) else (value,) * channels


def check_image(image: InputSpec) -> list[Diagnostic]:
    """The error QS616 for a `mean` or `std` with another number of entries than there are
    channels."""
    diagnostics = []
    for key, value in (("mean", image.mean), ("std", image.std)):
        if isinstance(value, Sequence) and len(value) != image.channels:
            diagnostics.append(
                QS616.diagnostic(
                    f"`{key}` has {len(value)} entries, and the input has "
                    f"{image.channels} channels",
                    help=f"give {image.channels}, or one number for all channels",
                    at=f"{image.at}/{key}" if image.at else None,
                )
            )
    return diagnostics


def of_shares(image: InputSpec) -> list[Diagnostic]:
    """The warning QS616 where mean and std are those of pixels from 0 to 1."""
    values = [per_channel(value, image.channels) for value in (image.mean, image.std)]
    numbers = {number for entries in values for number in entries}
    if not all(0 <= number <= 1 for number in numbers) or numbers <= {0, 1}:
        return []
    mean, std = ([round(_WHITE * number, 4) for number in entries] for entries in values)
    return [
        QS616.warning(
            "`mean` and `std` are from 0 to 1, and pixels are from 0 to 255: the input "
            f"reaches {max((_WHITE - m) / s for m, s in zip(*values, strict=True)):.4g}",
            help=f"write `mean: {mean}` and `std: {std}`, which are 255 times as large",
            at=f"{image.at}/mean",
        )
    ]


def clipped_by_scale(spec: Spec, image: InputSpec) -> list[Diagnostic]:
    """The warning QS617 where 8 bits of the fixed `scale` do not hold what pixels become."""
    if image.scale is None or not _are_pixels(spec, image) or not _is_taken_in_8_bits(spec):
        return []
    pairs = list(
        zip(
            per_channel(image.mean, image.channels),
            per_channel(image.std, image.channels),
            strict=True,
        )
    )
    low = min(-mean / std for mean, std in pairs)
    high = max((_WHITE - mean) / std for mean, std in pairs)
    least, most = (number * image.scale for number in _INT8)
    if low >= least - image.scale and high <= most + image.scale:
        return []
    needed = max(low / _INT8[0], high / _INT8[1])
    return [
        QS617.warning(
            f"pixels become {low:.3g} to {high:.3g}, and 8 bits at `scale: {image.scale:g}`"
            f" hold {least:.3g} to {most:.3g}: the rest is clipped",
            help=f"delete `scale`, which is then observed, or write `scale: {needed:.6g}`",
            at=f"{image.at}/scale",
        )
    ]


def picture_record(image: InputSpec) -> dict[str, Any]:
    """How a picture becomes an input, as files record it, as JSON."""
    pair = (image.mean, image.std)
    mean, std = (list(per_channel(value, image.channels)) for value in pair)
    record = {"format": image.format, "size": list(image.size), "mean": mean, "std": std}
    return record if image.resize is None else {**record, "resize": image.resize}


def _are_pixels(spec: Spec, image: InputSpec) -> bool:
    """Return whether the input is pixels that `mean` and `std` normalise: the spec writes one of
    them, or a data set takes them over. Other data (features, points) has its own numbers."""
    written = spec.document.data
    for key in split(image.at):
        written = written[key]
    params = [role.dataset.params for role in spec.data.values()]
    return any(key in settings for key in ("mean", "std") for settings in (written, *params))


def _is_taken_in_8_bits(spec: Spec) -> bool:
    """Return whether a prepared module takes the image at `model.input.scale`, and all that do
    have activations of 8 bits."""
    stages = [stage for stage in ("calibration", "qat") if stage in spec.stages]
    leaves = [leaf for stage in stages for leaf in spec.quantization(stage) if takes_scale(leaf)]
    return bool(leaves) and all(
        set() != _activations(leaf) <= {"qint8", "quint8"} for leaf in leaves
    )


def takes_scale(leaf: ModuleQuant) -> bool:
    """Return whether a prepared module may take the image at `model.input.scale`."""
    has_fixed_scale = leaf.prepare is not None and leaf.prepare.input_scale is not None
    return leaf.quantize_input and not has_fixed_scale


def _activations(leaf: ModuleQuant) -> set[str]:
    rules = leaf.qconfig.rules if leaf.qconfig else ()
    configs = [rule.value for rule in rules if rule.value is not None]
    return {c.activation.dtype for c in configs if c.activation is not None}
