"""How a tensor is quantized, as data: what rules resolve to and presets hold."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

DType = Literal["qint4", "qint8", "qint16"]
FakeQuant = Literal["fixed", "moving", "lsq", "pact"]

#: Integer range of each dtype, (lowest, highest).
QRANGE: dict[str, tuple[int, int]] = {
    "qint4": (-8, 7),
    "qint8": (-128, 127),
    "qint16": (-32768, 32767),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class QSpec:
    """How one tensor is quantized: symmetric, zero point 0, scale = amax / ((qmax - qmin) / 2).

    ch_axis             None: one scale a tensor; 0: one an output channel.
    averaging_constant  c of `scale = (1 - c) * scale + c * current` (moving_average).
    percentile, bins    of the percentile observer; `scale` of the fixed_scale observer.
    """

    dtype: DType = "qint8"
    observer: str = "moving_average"
    fake_quant: FakeQuant = "moving"
    averaging_constant: float = 0.01
    ch_axis: int | None = None
    percentile: float = 99.99
    bins: int = 2048
    scale: float | None = None

    @property
    def qmin(self) -> int:
        return QRANGE[self.dtype][0]

    @property
    def qmax(self) -> int:
        return QRANGE[self.dtype][1]


@dataclass(frozen=True, slots=True, kw_only=True)
class QConfig:
    """What a rule decides: activation and weight together. None leaves that tensor in float."""

    activation: QSpec | None = field(default_factory=QSpec)
    weight: QSpec | None = field(
        default_factory=lambda: QSpec(averaging_constant=1.0, ch_axis=0, observer="moving_average")
    )
