"""Pictures as a model takes them: `model.input` of a spec, applied to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from qatspec.language import default
from qatspec.picture.pixels import Pixels
from qatspec.picture.placement import Placement, Resize
from qatspec.picture.reading import open_picture

#: Input format -> Pillow's mode. YCbCr is full-range BT.601, centred at 128.
MODES = {"rgb": "RGB", "bgr": "RGB", "yuv444": "YCbCr", "gray": "L"}


@dataclass(frozen=True, kw_only=True)
class ModelInput:
    """How a picture becomes the model's input.

    size    (H, W) in pixels.
    format  the channels and their order.
    mean    one number, or one for each channel in the order of `format`: 0 to 255.
    std     as `mean`; image = (pixel - mean) / std, computed in float32.
    resize  how a picture of another size is fitted (`Placement.fitted`).
    crop    in place of `resize`: a factor above 0 to 1. The input is filled by a centre crop of its
            own ratio of sides, so many times the size of the largest one. None: as `resize` says.
    """

    size: tuple[int, int]
    format: Literal["rgb", "bgr", "yuv444", "gray"] = default("input", "format")
    mean: float | tuple[float, ...] = default("input", "mean")
    std: float | tuple[float, ...] = default("input", "std")
    resize: Resize = "letterbox"
    crop: float | None = None

    @staticmethod
    def of(params: Mapping[str, Any]) -> ModelInput:
        """Make a record from a mapping with these keys, such as the `params` of a data set; `size`
        may be one number, and a missing key has its default. Returns the record."""
        size = params["size"]
        height, width = (size, size) if isinstance(size, int) else size
        rest: dict[str, Any] = {k: params[k] for k in ("format", "resize", "crop") if k in params}
        numbers: dict[str, Any] = {k: _numbers(params[k]) for k in ("mean", "std") if k in params}
        return ModelInput(size=(height, width), **rest, **numbers)

    @property
    def fill(self) -> tuple[int, int, int]:
        """The RGB colour of padding: the mean, so that padding is 0 in the input."""
        if isinstance(self.mean, int | float):
            return (_byte(self.mean),) * 3
        levels = tuple(map(_byte, self.mean))
        match self.format:
            case "gray":
                return (levels[0],) * 3
            case "yuv444":
                pixel: Any = Image.new("YCbCr", (1, 1), levels).convert("RGB").getpixel((0, 0))
                red, green, blue = pixel
                return red, green, blue
            case _:
                red, green, blue = levels if self.format == "rgb" else levels[::-1]
                return red, green, blue

    def fitted(self, image: Image.Image) -> Placement:
        """Return the placement of the whole picture `image` in the input."""
        return Placement.fitted((image.height, image.width), self.size, self.resize)

    def cropped(self, image: Image.Image, box: tuple[float, float, float, float]) -> Image.Image:
        """Return the part `box` (left, top, right, bottom in pixels) of the picture `image`,
        resized to `size` (bicubic)."""
        height, width = self.size
        return image.resize((width, height), Image.Resampling.BICUBIC, box=box)

    def fit(self, image: Image.Image) -> Image.Image:
        """Return the picture `image` at `size`, as `crop` or `resize` says."""
        if self.crop is None:
            return self.fitted(image).paste(image, self.size, self.fill)
        height, width = self.size
        unit = min(image.height / height, image.width / width) * self.crop
        w, h = unit * width, unit * height
        left, top = (image.width - w) / 2, (image.height - h) / 2
        return self.cropped(image, (left, top, left + w, top + h))

    def normalize(self, image: Image.Image) -> np.ndarray:
        """Compute (pixels - mean) / std of an RGB picture `image` of `size`.

        Returns float32 (C, H, W), contiguous."""
        return self.pixels(image).normalized()

    def pixels(self, image: Image.Image) -> Pixels:
        """Return the bytes of an RGB picture `image` of `size`, which a training normalises on the
        model's device (`qatspec.api.PixelSample`)."""
        mode = MODES[self.format]
        same = image if image.mode == mode else image.convert(mode)
        pixels = np.asarray(same).reshape(*self.size, -1)
        if self.format == "bgr":
            pixels = pixels[..., ::-1]
        # Bytes are turned into planes, which are computed in a fourth of the time of numbers with
        # the channels behind, in which a tuple of means is broadcast.
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return Pixels(planes, self.mean, self.std)

    def read(self, path: Path) -> tuple[np.ndarray, dict[str, Any]]:
        """Read the picture file at `path`. Returns float32 (C, H, W) and what restores predictions
        (`Placement.meta`, with the file's name as `id`; the name alone with `crop`). Raises
        DiagnosticError QS911."""
        image = open_picture(path)
        placed = {} if self.crop is not None else self.fitted(image).meta(image)
        return self.normalize(self.fit(image)), {"id": path.name, **placed}


def _numbers(value: float | Sequence[float]) -> float | tuple[float, ...]:
    return value if isinstance(value, int | float) else tuple(value)


def _byte(level: float) -> int:
    return min(max(round(level), 0), 255)
