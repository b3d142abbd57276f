"""Predictions drawn onto their picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor, ImageDraw

from qatspec.train.files import write_bytes

#: told apart by people with any colour vision (Okabe & Ito 2008), darker in each further round
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
#: Share of a segment's colour in what is seen.
OPACITY = 0.5
#: A class that covers less of the picture is not in the legend.
LEAST_SHARE = 0.005


def draw_boxes(
    image: Image.Image,
    prediction: Mapping[str, np.ndarray],
    classes: Sequence[str],
    least_score: float,
) -> Image.Image:
    """An RGB picture with its boxes (xyxy, in its pixels), classes and scores, drawn in place."""
    pen = ImageDraw.Draw(image)
    for box, score, label in zip(
        prediction["boxes"].tolist(), prediction["scores"], prediction["labels"], strict=True
    ):
        if score < least_score:
            continue
        (left, right), (top, bottom) = sorted(box[0::2]), sorted(box[1::2])
        width = max(1, round(min(image.size) / 200))
        pen.rectangle((left, top, right, bottom), outline=_colour(label), width=width)
        name = classes[int(label)] if label < len(classes) else int(label)
        _write(pen, box[0], box[1], f"{name} {score:.2f}", _colour(label), anchor="lb")
    return image


def draw_mask(image: Image.Image, mask: np.ndarray, classes: Sequence[str]) -> Image.Image:
    """An RGB picture with its labels (height, width) laid over it, and a legend of the classes."""
    colours = np.array([_colour(label) for label in range(256)], np.uint8)
    drawn = Image.blend(image, Image.fromarray(colours[mask]), OPACITY)
    pen, y = ImageDraw.Draw(drawn), 0.0
    counts = np.bincount(mask.ravel(), minlength=256)
    for label in np.argsort(-counts, kind="stable").tolist():
        if counts[label] < LEAST_SHARE * mask.size:
            break
        name = classes[label] if label < len(classes) else label
        y = _write(pen, 0, y, str(name), _colour(label), anchor="lt")
    return drawn


def draw_classes(image: Image.Image, best: Sequence[Mapping[str, Any]]) -> Image.Image:
    """An RGB picture with classes (name, score, label) written at the top left, in place."""
    pen, y = ImageDraw.Draw(image), 0.0
    for entry in best:
        text = f"{entry['name']} {entry['score']:.2f}"
        y = _write(pen, 0, y, text, _colour(entry["label"]), anchor="lt")
    return image


def write_png(image: Image.Image, target: Path) -> None:
    """Write a PNG, atomically. Raises DiagnosticError QS903."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(target, buffer.getvalue())


def _colour(label: int) -> tuple[int, ...]:
    further, color = divmod(int(label), len(PALETTE))
    return tuple(round(c * 0.7**further) for c in ImageColor.getrgb(PALETTE[color]))


def _write(
    pen: ImageDraw.ImageDraw, x: float, y: float, text: str, colour: tuple[int, ...], anchor: str
) -> float:
    """Words on a ground of `colour`, kept below the picture's upper edge; returns the lower edge of
    the text."""
    left, top, right, bottom = pen.textbbox((x, y), text, anchor=anchor)
    down = max(0, -top)
    pen.rectangle((left, top + down, right, bottom + down), fill=colour)
    dark = sum(colour) < 300
    pen.text((left, top + down), text, fill="white" if dark else "black", anchor="lt")
    return bottom + down
