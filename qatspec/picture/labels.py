"""The numbers of a label map, never scaled and never taken for colours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from qatspec.picture.stored import Stored, UnreadableError

#: Formats that change numbers, or may: whether a file was compressed without loss is not looked at.
_LOSSY = ("AVIF", "JPEG", "JPEG2000", "MPO", "WEBP")
_HELP = "save it as a PNG with one channel (grey or palette) whose numbers are the labels"


def to_labels(stored: Stored) -> NDArray[np.int32]:
    """Stored numbers (height, width), in the frame of the file.

    Raises UnreadableError for files that do not store one whole number a pixel.
    """
    mode = stored.pixels.mode
    if stored.format in _LOSSY:
        raise UnreadableError(f"{stored.format} may not keep the numbers of a label map", _HELP)
    if ";16" in stored.layout and not mode.startswith("I"):
        raise UnreadableError("of its 16 bits in several channels only 8 are read", _HELP)
    if mode == "1" or mode.startswith("I"):
        values = np.asarray(stored.pixels).astype(np.int32)
    elif mode in ("L", "LA", "P", "PA", "RGB", "RGBA"):
        values = _equal_channels(np.asarray(stored.pixels), mode)
    else:
        raise UnreadableError(f"it stores colours or fractions (mode {mode}), not labels", _HELP)
    if stored.signed and mode == "L":
        return values.astype(np.int8).astype(np.int32)
    if mode == "I" and not stored.signed and values.min() < 0:
        raise UnreadableError("it stores numbers above 2,147,483,647", _HELP)
    return _unscaled(values, stored)


def _equal_channels(pixels: NDArray[np.uint8], mode: str) -> NDArray[np.int32]:
    """The one number of each pixel; alpha is ignored."""
    first = pixels if pixels.ndim == 2 else pixels[..., 0]
    if mode.startswith("RGB") and (pixels[..., 1:3] != first[..., None]).any():
        raise UnreadableError(f"it stores colours (mode {mode}), not labels", _HELP)
    return first.astype(np.int32)


def _unscaled(values: NDArray[np.int32], stored: Stored) -> NDArray[np.int32]:
    """Undo how Pillow spreads few bits, or a maximum below 255, over 8 or 16 bits."""
    mode, _, form = stored.layout.partition(";")
    inverted = ("I" in form and mode in ("1", "L")) or (stored.inverted and mode.startswith("I"))
    spread, maximum = _ranges(stored, form)
    if spread != maximum:
        values = np.rint(values * (maximum / spread)).astype(np.int32)
    return maximum - values if inverted else values


def _ranges(stored: Stored, form: str) -> tuple[int, int]:
    """(largest value in Pillow's pixels, largest value in the file)."""
    mode = stored.pixels.mode
    if mode == "1":
        return 1, 1
    if mode.startswith("I"):
        return 65535, stored.maximum or 65535
    bits = int(form[0]) if mode == "L" and form[:1].isdigit() else 8
    return 255, stored.maximum or 2**bits - 1
