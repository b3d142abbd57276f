"""Segmentation sets of pictures and masks: the registered data set `mask_segmentation`."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.api import (
    Diagnostic,
    DiagnosticError,
    Span,
    codes,
    open_labels,
    open_picture,
)
from qatspec_vision.data.cityscapes_layout import IGNORED
from qatspec_vision.data.masks_layout import classes_of, locate
from qatspec_vision.data.names import Names
from qatspec_vision.data.problems import shared
from qatspec_vision.data.segmentation import SegmentationSet, options


def open_masks(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> SegmentationSet:
    """Open the registered data set `mask_segmentation`.

    A mask holds the number of each pixel's class, or its colour where the classes have colours.
    Raises DiagnosticError: QS910, QS958."""
    named = classes_of(params, base_dir)
    ignored = params["ignore"]
    read = (
        partial(_numbers, classes=len(named.classes), ignored=ignored)
        if named.colours is None
        else partial(_coloured, names=named, ignored=params["ignore_colours"])
    )
    pairs = locate(params, base_dir)[: params.get("limit")]
    warnings: tuple[Diagnostic, ...] = ()
    if pairs and "{name}" not in params["mask_name"]:
        warnings = shared(
            "mask", (pair.name for pair in pairs), pairs[0].picture.parent, "it is taken for each"
        )
    return SegmentationSet(pairs, named.classes, read, diagnostics=warnings, **options(params))


def _numbers(path: Path, classes: int, ignored: list[int]) -> np.ndarray:
    """Labels (height, width) uint8 of a mask that holds numbers. Raises DiagnosticError QS958 for
    a number that is no class, QS911."""
    values = open_labels(path)
    unknown = ~np.isin(values, [*range(classes), *ignored])
    if unknown.any():
        number = values[_first(unknown)]
        raise _fault(
            path,
            unknown,
            f"holds {number}, and there are {classes} classes, from 0 to {classes - 1}",
            "name the class in `classes`, or write the number into `ignore`; a mask of colours "
            "needs `colours`",
        )
    return np.where(np.isin(values, ignored), IGNORED, values).astype(np.uint8)


def _coloured(path: Path, names: Names, ignored: list[list[int]]) -> np.ndarray:
    """Labels (height, width) uint8 of a mask that holds colours. Raises DiagnosticError QS958 for
    a colour of no class, QS911."""
    pixels = np.asarray(open_picture(path), np.int64)
    codes = _code(pixels)
    known = _code(np.array([*(names.colours or []), *ignored], np.int64).reshape(-1, 3))
    labels = np.array([*range(len(names.classes)), *[IGNORED] * len(ignored)], np.uint8)
    order = np.argsort(known)
    places = np.minimum(np.searchsorted(known[order], codes), len(known) - 1)
    unknown = known[order][places] != codes
    if unknown.any():
        colour = pixels[_first(unknown)].tolist()
        raise _fault(
            path,
            unknown,
            f"holds the colour {colour}, which no class has",
            "add it to `colours` or `ignore_colours`; a mask that was saved as JPEG or resized "
            "with blending has colours of no class",
        )
    return np.asarray(labels[order][places])


def _code(colours: np.ndarray) -> np.ndarray:
    """Each colour (..., 3) as one number."""
    return np.asarray((colours[..., 0] << 16) | (colours[..., 1] << 8) | colours[..., 2])


def _first(mask: np.ndarray) -> tuple[int, int]:
    row, column = np.argwhere(mask)[0]
    return int(row), int(column)


def _fault(path: Path, unknown: np.ndarray, what: str, help_: str) -> DiagnosticError:
    row, column = _first(unknown)
    share = 100 * float(unknown.mean())
    return codes.QS958.error(
        f"the mask `{path.name}` {what}: {share:.2g} % of its pixels, the first at "
        f"column {column} of row {row}",
        help=help_,
        span=Span(file=str(path)),
    )
