"""Intersection over union of segmentation maps, by the definition of Cityscapes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class Confusion:
    """Pixels counted by (true class, predicted class); true labels outside 0..classes-1 do not
    count."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._counts = np.zeros((classes, classes + 1), np.int64)

    def add(self, truth: np.ndarray, predicted: np.ndarray) -> None:
        """One picture, two integer arrays of the same shape. A predicted label outside the classes
        is wrong wherever it stands."""
        counted = truth < self._classes
        wrong = self._classes
        columns = np.minimum(predicted[counted], wrong).astype(np.int64)
        cells = truth[counted].astype(np.int64) * (wrong + 1) + columns
        self._counts += np.bincount(cells, minlength=self._counts.size).reshape(self._counts.shape)

    @property
    def counts(self) -> np.ndarray:
        """(classes, classes + 1) int64: true by predicted class, the last outside the classes."""
        return self._counts

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """mIoU (mean over the classes that occur in the truth), pixel_accuracy and IoU_<name> of
        those classes, 0-100. Empty where no pixel counts."""
        inside = self._counts[:, : self._classes]
        right = np.diag(inside)
        true = self._counts.sum(axis=1)
        present = np.flatnonzero(true)
        if not len(present):
            return {}
        union = true + inside.sum(axis=0) - right
        iou = 100.0 * right[present] / union[present]
        return {
            "mIoU": float(iou.mean()),
            "pixel_accuracy": float(100.0 * right.sum() / true.sum()),
            **{f"IoU_{names[int(c)]}": float(v) for c, v in zip(present, iou, strict=True)},
        }
