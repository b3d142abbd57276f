"""Draws a picture of several digits: varied size, contrast and background."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from qatspec_demo.scans import Scans

Pixels = NDArray[np.float32]

#: Rec. 601 luma of RGB.
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
#: Smallest difference in luma between a digit and what is behind it.
CONTRAST = 70.0
MAX_TURN_DEGREES = 12.0
PLACING_ATTEMPTS = 40
#: Pixels between any two boxes.
MARGIN = 2


class Picture(NamedTuple):
    """pixels (size, size, 3) uint8; boxes (M, 4) xywh in whole pixels; labels (M,)."""

    pixels: NDArray[np.uint8]
    boxes: list[list[int]]
    labels: list[int]


def draw_picture(
    scans: Scans,
    size: int,
    digits: tuple[int, int],
    height: tuple[int, int],
    rng: np.random.Generator,
) -> Picture:
    """One picture of between digits[0] and digits[1] scans, height[0] to height[1] pixels high.

    A digit that finds no free place is left out, so a crowded picture may hold fewer.
    """
    canvas = _background(size, rng)
    boxes: list[list[int]] = []
    labels: list[int] = []
    low, high = np.log(height)
    count = int(rng.integers(digits[0], digits[1], endpoint=True))
    # Large digits first: small ones still find space between them.
    for tall in sorted(np.exp(rng.uniform(low, high, count)), reverse=True):
        choice = int(rng.integers(len(scans.labels)))
        ink = _scale_ink(scans.ink[choice], round(tall), rng)
        corner = _free_place(ink.shape, size, boxes, rng)
        if corner is None:
            continue
        x, y = corner
        _paint(canvas[y : y + ink.shape[0], x : x + ink.shape[1]], ink, rng)
        boxes.append([x, y, ink.shape[1], ink.shape[0]])
        labels.append(int(scans.labels[choice]))
    return Picture(np.clip(canvas, 0, 255).astype(np.uint8), boxes, labels)


def _background(size: int, rng: np.random.Generator) -> Pixels:
    """Two shades blended along a direction, smooth blotches and fine noise. (size, size, 3)."""
    shade = rng.uniform(20, 235) + rng.normal(0, 25, 3)
    other = shade + rng.uniform(-60, 60, 3)
    angle = rng.uniform(0, 2 * np.pi)
    y, x = np.mgrid[0:size, 0:size] / (size - 1) - 0.5
    blend = np.clip(0.5 + x * np.cos(angle) + y * np.sin(angle), 0, 1)[..., None]

    cells = int(rng.integers(3, 12))
    blotches = rng.normal(0, rng.uniform(0, 18), (cells, cells)).astype(np.float32)
    smooth = Image.fromarray(blotches).resize((size, size), Image.Resampling.BICUBIC)
    noise = rng.normal(0, rng.uniform(0, 7), (size, size, 1))
    canvas = shade * (1 - blend) + other * blend + np.asarray(smooth)[..., None] + noise
    pixels: Pixels = np.clip(canvas, 0, 255).astype(np.float32)
    return pixels


def _scale_ink(scan: Pixels, height: int, rng: np.random.Generator) -> Pixels:
    """A scan turned a little, `height` pixels high, cut to its ink: (height, width) in 0..1."""
    margin = np.pad(scan, 3)
    large = Image.fromarray(margin).resize((8 * len(margin),) * 2, Image.Resampling.BICUBIC)
    turn = rng.uniform(-MAX_TURN_DEGREES, MAX_TURN_DEGREES)
    turned = np.asarray(large.rotate(turn, Image.Resampling.BILINEAR))
    # Scans are blurred by their coarse pixels: steepen the edge of the stroke.
    stroke = np.clip((turned - 0.25) / 0.4, 0, 1)
    rows, columns = np.nonzero(stroke.max(1) > 0.5)[0], np.nonzero(stroke.max(0) > 0.5)[0]
    cut = stroke[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    ratio = cut.shape[1] / cut.shape[0] * rng.uniform(0.85, 1.15)
    # Reducing averages whole areas, so that thin strokes of small digits do not break.
    scaled = Image.fromarray(cut).resize(
        (max(4, round(height * ratio)), height), Image.Resampling.BOX
    )
    return np.asarray(scaled)


def _free_place(
    shape: tuple[int, ...], size: int, boxes: list[list[int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """A random (x, y) that keeps clear of all boxes, or None after enough attempts."""
    height, width = shape
    if max(height, width) > size:
        return None
    for _ in range(PLACING_ATTEMPTS):
        x = int(rng.integers(size - width, endpoint=True))
        y = int(rng.integers(size - height, endpoint=True))
        if all(
            x + width + MARGIN <= bx
            or bx + bw + MARGIN <= x
            or y + height + MARGIN <= by
            or by + bh + MARGIN <= y
            for bx, by, bw, bh in boxes
        ):
            return x, y
    return None


def _paint(region: Pixels, ink: Pixels, rng: np.random.Generator) -> None:
    """Blend one colour into region (h, w, 3) through the ink, lighter or darker than behind it."""
    behind = float((region @ LUMA).mean())
    headroom = {sign: (255 - behind if sign > 0 else behind) for sign in (1, -1)}
    fits = [sign for sign, space in headroom.items() if space > CONTRAST]
    sign = fits[int(rng.integers(len(fits)))]
    luma = behind + sign * rng.uniform(CONTRAST, headroom[sign])
    tint = rng.normal(0, 30, 3)
    colour = luma + tint - tint @ LUMA
    region += ink[..., None] * (colour.astype(np.float32) - region)
