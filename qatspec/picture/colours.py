"""Pixels of any mode as 8-bit RGB."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from qatspec.picture.stored import Stored, UnreadableError

#: Rows that are scaled at a time, so that a large picture needs no copy in a wider type.
_ROWS = 256


def to_rgb(stored: Stored) -> Image.Image:
    """The stored pixels as 8-bit RGB.

    Raises UnreadableError for numbers without a defined black and white, and unknown modes.
    """
    pixels, mode = stored.pixels, stored.pixels.mode
    if stored.signed or (mode == "I" and stored.format not in ("PNG", "PPM")):
        raise UnreadableError(
            "it stores 32-bit or signed integers, for which no number is defined as white",
            "save it with 8 or unsigned 16 bits a channel, scaled so that white is 255 or 65535",
        )
    if mode == "RGB":
        return pixels
    if mode.startswith("I"):
        return _scaled(stored, 2**stored.bits - 1)
    if mode == "F":
        return _scaled(stored, 1)
    if mode in ("P", "PA"):
        _demand_colours(stored)
    if mode == "LAB":
        return _from_lab(pixels)
    if mode in ("La", "RGBa"):  # colours that are multiplied by alpha
        pixels = pixels.convert("LA" if mode == "La" else "RGBA")
    return pixels.convert("RGB")


def _demand_colours(stored: Stored) -> None:
    """Refuse pixels without a colour. A GIF may have them where it is transparent."""
    colours = len(stored.pixels.getpalette() or ()) // 3
    used = stored.pixels.getextrema()
    largest = used[0][1] if isinstance(used[0], tuple) else used[1]
    if largest >= colours and stored.format != "GIF":
        raise UnreadableError(
            f"its pixels use colour {largest:g}, but its palette has {colours} colours",
            "restore the file, or take it out of the data set",
        )


def _scaled(stored: Stored, white: int) -> Image.Image:
    """Grey numbers from 0 to `white` as RGB, rounded to the nearest of 256 levels."""
    width, height = stored.pixels.size
    grey = np.empty((height, width), np.uint8)
    for top in range(0, height, _ROWS):
        rows = stored.pixels.crop((0, top, width, min(top + _ROWS, height)))
        values = np.asarray(rows, np.float64)
        # The comparison is false for NaN as well.
        if not (values.min() >= 0 and values.max() <= white):
            raise _outside(values, white)
        levels = np.rint(values * (255 / white)).astype(np.uint8)
        grey[top : top + _ROWS] = 255 - levels if stored.inverted else levels
    return Image.fromarray(grey).convert("RGB")


def _outside(values: NDArray[np.float64], white: int) -> UnreadableError:
    return UnreadableError(
        f"it stores numbers from {values.min():g} to {values.max():g}, but black is 0 and white "
        f"is {white} in a file of this kind",
        "scale its numbers to that range, or save it with 8 or 16 bits a channel",
    )


def _from_lab(pixels: Image.Image) -> Image.Image:
    """CIE L*a*b* (D50) as sRGB."""
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(pixels, lab, srgb, outputMode="RGB")
    assert converted is not None  # it is None only where the conversion is done in place
    return converted
