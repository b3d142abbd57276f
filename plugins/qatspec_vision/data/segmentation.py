"""Segmentation sets, whatever their files look like: pictures, label maps, and mIoU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import (
    Diagnostic,
    ModelInput,
    PixelSample,
    Sample,
    open_annotated_picture,
    restore_mask,
)
from qatspec_vision.data.augment import FittedAugment, random_placement, shift_hsv
from qatspec_vision.data.cityscapes_layout import IGNORED, Pair
from qatspec_vision.data.iou import Confusion
from qatspec_vision.data.picture import rotation_ignored
from qatspec_vision.data.transforms import Transforms

Labels = Callable[[Path], np.ndarray]


class SegmentationSet:
    """A segmentation set, its files read when asked for.

    pairs        pictures and label files of a split.
    classes      names in label order.
    read_labels  a label file as labels (height, width) uint8, 255 where nothing counts. Raises
                 DiagnosticError.
    fed          what the model takes.
    augment      random changes.
    transforms   further random changes.
    diagnostics  warnings of what read the files.

    Target: mask (H, W) int64 of labels, 255 where nothing counts (padding as well).
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        read_labels: Labels,
        *,
        fed: ModelInput,
        augment: FittedAugment,
        transforms: Transforms | None = None,
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        self.classes, self.diagnostics = classes, diagnostics
        self._pairs = pairs
        self._by_name = {pair.name: pair for pair in pairs}
        self._labels = read_labels
        self._fed = fed
        self._augment = augment
        self._transforms = transforms

    def __len__(self) -> int:
        return len(self._pairs)

    @property
    def pictures(self) -> list[Path]:
        """The files of the pictures, in order."""
        return [pair.picture for pair in self._pairs]

    def sample(self, index: int, rng: np.random.Generator) -> PixelSample:
        """The picture at `index`, augmented by `rng` alone. Raises DiagnosticError QS911."""
        pair, augment = self._pairs[index], self._augment
        labels = Image.fromarray(self._labels(pair.labels))
        image, as_stored = open_annotated_picture(pair.picture, labels.size)
        warnings = (rotation_ignored(pair.labels),) if as_stored else ()
        if rng.random() < augment.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            labels = labels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        fed = self._fed
        placement = random_placement(image, fed, augment, rng)
        meta = {"id": pair.name, **placement.meta(image)}
        image = placement.paste(image, fed.size, fed.fill)
        labels = placement.paste(labels, fed.size, (IGNORED,), Image.Resampling.NEAREST)
        if any(augment.hsv):
            image = shift_hsv(image, augment.hsv, rng)
        target = {"mask": np.asarray(labels)}
        if self._transforms:
            image, target = self._transforms(image, rng, **target)
            meta = {"id": pair.name}
        target = {"mask": target["mask"].astype(np.int64)}
        return PixelSample(self._fed.pixels(image), target, meta, warnings)

    def read(self, path: Path) -> Sample:
        """Any picture, as `sample` gives one, without augmentation and target.
        Raises DiagnosticError QS911."""
        image, meta = self._fed.read(path)
        return Sample(image, {}, meta)

    def restore_mask(self, meta: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
        """A mask of the model's input -> of the original picture, (height, width) uint8."""
        return restore_mask(meta, mask)

    def evaluate(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, float]:
        """mIoU, pixel_accuracy and IoU_<class> (see Confusion) at the pictures' own size."""
        return self._confusion(predictions).metrics(self.classes)

    def details(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, Any]:
        """IoU of each class, and pixels by true and predicted class."""
        confusion = self._confusion(predictions)
        metrics = confusion.metrics(self.classes)
        classes = {n: {"IoU": metrics[f"IoU_{n}"]} for n in self.classes if f"IoU_{n}" in metrics}
        return {"classes": classes, "confusion": confusion.counts.tolist()}

    def _confusion(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> Confusion:
        confusion = Confusion(len(self.classes))
        for meta, prediction in predictions:
            mask = self.restore_mask(meta, np.asarray(prediction["mask"], np.uint8))
            confusion.add(self._labels(self._by_name[meta["id"]].labels), mask)
        return confusion


def options(params: Mapping[str, Any]) -> dict[str, Any]:
    """SegmentationSet's keywords from the params that every segmentation set shares."""
    fed, augment = ModelInput.of(params), params["augment"]
    return {
        "fed": fed,
        "augment": FittedAugment.of(augment),
        "transforms": Transforms.of(augment, fed),
    }
