"""Segmentation sets in Cityscapes' layout: the registered data set `cityscapes_segmentation`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.api import Diagnostic, DiagnosticError, Span, codes, open_labels
from qatspec_vision.data import made_up
from qatspec_vision.data.cityscapes_layout import CLASSES, IGNORED, LABEL_IDS, locate
from qatspec_vision.data.segmentation import SegmentationSet, options

#: label id (0..255) -> train id
_TRAIN_ID = np.full(256, IGNORED, np.uint8)
_TRAIN_ID[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


def open_cityscapes(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> SegmentationSet:
    """Open the registered data set `cityscapes_segmentation`; only made-up pictures are cached."""
    if "made_up" in params:
        made, folder = made_up.build(params, cache_dir, made_up.cityscapes)
        opened = open_cityscapes(made, cache_dir, folder)
        opened.diagnostics = made_up.told(params)
        return opened
    return SegmentationSet(
        locate(params, base_dir)[: params.get("limit")],
        CLASSES,
        partial(_train_ids, stored=params["labels"]),
        **options(params),
    )


def _train_ids(path: Path, stored: str) -> np.ndarray:
    """Return train ids (height, width) uint8. stored: what the file holds, labelIds (as the
    official download) or labelTrainIds. Raises DiagnosticError QS911."""
    values = open_labels(path)
    if values.min() < 0 or values.max() > 255:
        raise DiagnosticError(_no_label(path, values))
    ids = values.astype(np.uint8)
    return ids if stored == "labelTrainIds" else _TRAIN_ID[ids]


def _no_label(path: Path, values: np.ndarray) -> Diagnostic:
    worst = values.max() if values.max() > 255 else values.min()
    return codes.QS911.diagnostic(
        f"cannot read the labels `{path.name}`: they hold {worst}, and a label is 0 to 255",
        help="give the files of labels, not of instances: `*_gtFine_labelIds.png`",
        span=Span(file=str(path)),
    )
