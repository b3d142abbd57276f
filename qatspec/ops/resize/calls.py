"""The arguments of the op."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NEAREST, LINEAR = ("nearest", "nearest-exact"), ("linear", "bilinear")


@dataclass(frozen=True, slots=True)
class Interpolate:
    x: Any
    size: Any = None
    scale_factor: Any = None
    mode: str = "nearest"
    align_corners: bool | None = None
    recompute_scale_factor: bool | None = None
    antialias: bool = False
