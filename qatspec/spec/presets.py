"""The qconfig presets that belong together: of a calibration, of qat behind it, of qat alone."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Literal

from qatspec.registry import Registry
from qatspec.types import QConfig, QConfigDef, QSpec

Purpose = Literal["calibration", "calibrated", "qat"]


def purpose(preset: QConfigDef) -> Purpose:
    """What a preset is for: "calibration" measures scales and fixes them, "calibrated" keeps those
    that a calibration measured, "qat" lets them move."""
    if preset.needs_calibration:
        return "calibrated"
    activation = preset.config.activation
    return "calibration" if activation is not None and activation.fake_quant == "fixed" else "qat"


def relative(name: str, wanted: Purpose, names: Registry) -> str | None:
    """The preset for another purpose whose integers are those of the preset `name`; None: there is
    none. Of several it is the one whose name is most like it."""
    integers = _integers(names.qconfig(name).config)
    alike = [
        other
        for other in names.names("qconfig")
        if purpose(definition := names.qconfig(other)) == wanted
        and _integers(definition.config) == integers
    ]
    return max(alike, key=lambda other: SequenceMatcher(None, name, other).ratio(), default=None)


def _integers(config: QConfig) -> tuple[QSpec | None, QSpec | None]:
    """What is left of a config without how the scales of activations are found and moved."""
    of = config.activation
    if of is not None:
        of = QSpec(dtype=of.dtype, ch_axis=of.ch_axis, scale=of.scale)
    return of, config.weight
