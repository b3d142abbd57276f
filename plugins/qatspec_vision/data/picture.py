"""Pictures as the model is fed them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import Diagnostic, Span

#: Input format -> Pillow's mode. YCbCr is full-range BT.601, centred at 128.
MODES = {"rgb": "RGB", "yuv444": "YCbCr", "gray": "L"}


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """size (H, W) in pixels; format rgb, yuv444 or gray; image = (pixel - mean) / std."""

    size: tuple[int, int]
    format: str = "rgb"
    mean: float = 128.0
    std: float = 128.0

    @staticmethod
    def of(params: Mapping[str, Any]) -> ModelInput:
        """From the params that every picture set shares (qatspec_vision.params.PICTURE)."""
        size = params["size"]
        height, width = (size, size) if isinstance(size, int) else size
        rest = {k: params[k] for k in ("format", "mean", "std") if k in params}
        return ModelInput(size=(height, width), **rest)

    @property
    def fill(self) -> int:
        """The grey level of padding: what becomes 0."""
        return round(self.mean)

    def normalize(self, image: Image.Image) -> np.ndarray:
        """A picture of `size` -> float32 (C, H, W), contiguous."""
        pixels = np.asarray(image.convert(MODES[self.format]), np.float32).reshape(*self.size, -1)
        return np.ascontiguousarray(((pixels - self.mean) / self.std).transpose(2, 0, 1))


def rotation_ignored(annotations: Path) -> Diagnostic:
    """The warning that pictures are taken as they are stored, as `annotations` are of them so."""
    return Diagnostic(
        code="QS951",
        severity="warning",
        message=f"pictures of `{annotations.name}` have a rotation tag, which is ignored: their "
        "annotations have the size of the stored pixels, not of the upright picture",
        help="if objects look turned in drawings, remove the tags (`exiftool -Orientation= FILE`) "
        "or correct the annotations",
        span=Span(file=str(annotations)),
    )
