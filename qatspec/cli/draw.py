"""Predictions drawn onto their picture."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from qatspec.train.files import write_bytes

#: told apart by people with any colour vision (Okabe & Ito 2008), repeated over the classes
PALETTE = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")


def draw(
    picture: Path,
    target: Path,
    prediction: Mapping[str, np.ndarray],
    classes: Sequence[str],
    least_score: float,
) -> None:
    """Write `target`, a PNG of `picture` with its boxes (xyxy, in the picture's own pixels).

    Raises DiagnosticError QS903."""
    with Image.open(picture) as opened:
        image = opened.convert("RGB")
    pen = ImageDraw.Draw(image)
    for box, score, label in zip(
        prediction["boxes"].tolist(), prediction["scores"], prediction["labels"], strict=True
    ):
        if score < least_score:
            continue
        colour = PALETTE[int(label) % len(PALETTE)]
        pen.rectangle(box, outline=colour, width=max(1, round(min(image.size) / 200)))
        text = f"{classes[int(label)]} {score:.2f}"
        left, top, right, bottom = pen.textbbox((box[0], box[1]), text, anchor="lb")
        up = min(0, -top)  # keep the words inside the picture
        pen.rectangle((left, top + up, right, bottom + up), fill=colour)
        pen.text((left, top + up), text, fill="black", anchor="lt")
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    write_bytes(target, buffer.getvalue())
