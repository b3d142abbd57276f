"""Predictions as an entry of predictions.json and as a drawing on the picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.picture import open_picture
from qatspec.report.draw import draw_boxes, draw_classes, draw_mask, write_png

#: Classes of a classification that are told.
BEST = 5


def present(
    prediction: Mapping[str, np.ndarray],
    dataset: Any,
    meta: Mapping[str, Any],
    picture: Path | None,
    target: Path,
    least_score: float,
) -> dict[str, Any]:
    """What predictions.json holds of one input; drawings go to `target`.png.

    picture, meta  what the input was read from; None and empty for an array, which stays in the
                   model's own pixels and is not drawn.

    Detection: boxes (xyxy in the picture's pixels), scores, labels, names. Segmentation: mask, the
    name of an 8-bit PNG of labels as large as the picture, and shares, class -> part of it.
    Classification: best, the five best classes. Others: their arrays as they are.
    Raises DiagnosticError QS903.
    """
    if {"boxes", "scores", "labels"} <= prediction.keys():
        return _boxes(prediction, dataset, meta, picture, target, least_score)
    if "mask" in prediction and prediction["mask"].ndim == 2:
        return _mask(prediction["mask"], dataset, meta, picture, target)
    if "label" in prediction and "scores" in prediction:
        return _classes(prediction["scores"], dataset.classes, picture, target)
    return {name: value.tolist() for name, value in prediction.items()}


def _boxes(
    prediction: Mapping[str, np.ndarray],
    dataset: Any,
    meta: Mapping[str, Any],
    picture: Path | None,
    target: Path,
    least_score: float,
) -> dict[str, Any]:
    shown = dict(prediction)
    if picture is not None:
        shown["boxes"] = dataset.restore(meta, prediction["boxes"])
        drawn = draw_boxes(open_picture(picture), shown, dataset.classes, least_score)
        write_png(drawn, target.with_name(f"{target.name}.png"))
    plain: dict[str, Any] = {name: value.tolist() for name, value in shown.items()}
    plain["names"] = [_name(dataset.classes, label) for label in plain["labels"]]
    return plain


def _mask(
    mask: np.ndarray, dataset: Any, meta: Mapping[str, Any], picture: Path | None, target: Path
) -> dict[str, Any]:
    labels = mask.astype(np.uint8)
    if picture is not None:
        labels = dataset.restore_mask(meta, labels)
        drawn = draw_mask(open_picture(picture), labels, dataset.classes)
        write_png(drawn, target.with_name(f"{target.name}.png"))
    file = target.with_name(f"{target.name}-mask.png")
    write_png(Image.fromarray(labels), file)
    labels_used, counts = np.unique(labels, return_counts=True)
    shares = (counts / labels.size).tolist()
    names = [_name(dataset.classes, label) for label in labels_used.tolist()]
    return {"mask": file.name, "shares": dict(zip(names, shares, strict=True))}


def _classes(
    scores: np.ndarray, classes: Sequence[str], picture: Path | None, target: Path
) -> dict[str, Any]:
    order = np.argsort(-scores, kind="stable")[:BEST].tolist()
    best = [
        {"label": label, "name": _name(classes, label), "score": float(scores[label])}
        for label in order
    ]
    if picture is not None:
        write_png(draw_classes(open_picture(picture), best), target.with_name(f"{target.name}.png"))
    return {"best": best}


def _name(classes: Sequence[str], label: int) -> str:
    """The name of a label; its number where the model has more classes than the data set names."""
    return str(classes[label]) if label < len(classes) else str(label)
