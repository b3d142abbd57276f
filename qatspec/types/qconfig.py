"""How a tensor is quantized, as data: what rules resolve to and presets hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from qatspec.language import default

DType = Literal["qint4", "qint8", "qint16", "quint8"]
FakeQuant = Literal["fixed", "moving", "lsq", "pact"]

#: Integer range of each dtype, (lowest, highest).
QRANGE: dict[str, tuple[int, int]] = {
    "qint4": (-8, 7),
    "qint8": (-128, 127),
    "qint16": (-32768, 32767),
    "quint8": (0, 255),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QSpec:
    """How one tensor is quantized: zero point 0, scale = amax / half_range (rule: presets).

    observer            how the range is found: a name that a plugin registers.
    fake_quant          how training goes through the rounding: a name of the language's schema.
    dtype               quint8 is for values that cannot be negative; others of the same rule get
                        qint8.
    ch_axis             None: one scale a tensor; 0: one an output channel.
    averaging_constant  c of `scale = (1 - c) * scale + c * current` (moving_average).
    percentile, bins    of the percentile observer; `scale` of the fixed_scale observer.
    """

    dtype: DType = default("qspec", "dtype")
    observer: str = default("qspec", "observer")
    fake_quant: FakeQuant = default("qspec", "fake_quant")
    averaging_constant: float = default("qspec", "averaging_constant")
    ch_axis: int | None = default("qspec", "ch_axis")
    percentile: float = default("qspec", "percentile")
    bins: int = default("qspec", "bins")
    scale: float | None = default("qspec", "scale")

    @property
    def qmin(self) -> int:
        """Least integer of the dtype."""
        return QRANGE[self.dtype][0]

    @property
    def qmax(self) -> int:
        """Greatest integer of the dtype."""
        return QRANGE[self.dtype][1]

    @property
    def half_range(self) -> float:
        """What the largest magnitude is divided by to give the scale."""
        low, high = QRANGE[self.dtype]
        return (high - low) / 2 if low else float(high)


def _weight() -> QSpec:
    """A weight's QSpec: the spec language has other defaults for two keys below `weight`."""
    return QSpec(
        averaging_constant=default("rule_value", "weight", "averaging_constant"),
        ch_axis=default("rule_value", "weight", "ch_axis"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QConfig:
    """What a rule decides: activation and weight together. None leaves that tensor in float."""

    activation: QSpec | None = field(default_factory=QSpec)
    weight: QSpec | None = field(default_factory=_weight)
