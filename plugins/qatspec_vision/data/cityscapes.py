"""Segmentation sets in Cityscapes' layout: the registered data set `cityscapes_segmentation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import (
    Diagnostic,
    DiagnosticError,
    ModelInput,
    Sample,
    Span,
    open_annotated_picture,
    open_labels,
    restore_mask,
)
from qatspec_vision.data import made_up
from qatspec_vision.data.augment import Augment, random_placement, shift_hsv
from qatspec_vision.data.cityscapes_layout import CLASSES, IGNORED, LABEL_IDS, Pair, locate
from qatspec_vision.data.iou import Confusion
from qatspec_vision.data.picture import rotation_ignored

#: label id (0..255) -> train id
_TRAIN_ID = np.full(256, IGNORED, np.uint8)
_TRAIN_ID[list(LABEL_IDS)] = np.arange(len(LABEL_IDS))


class CityscapesSegmentation:
    """A segmentation set, its files read when asked for.

    pairs    pictures and labels of a split.
    fed      what the model takes; a picture keeps its ratio and is padded with the mean.
    ids      what the label files hold: labelIds (the official download) or labelTrainIds.
    augment  random changes; none by default, as validation wants.

    Target: mask (H, W) int64 of train ids, 255 where nothing counts (padding as well).
    """

    classes: Sequence[str] = CLASSES
    diagnostics: tuple[Diagnostic, ...] = ()

    def __init__(
        self,
        pairs: Sequence[Pair],
        *,
        fed: ModelInput,
        ids: str = "labelIds",
        augment: Augment | None = None,
    ) -> None:
        self._pairs = pairs
        self._by_name = {pair.name: pair for pair in pairs}
        self._fed = fed
        self._ids = ids
        self._augment = augment or Augment()

    def __len__(self) -> int:
        return len(self._pairs)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The picture at `index`, augmented by `rng` alone. Raises DiagnosticError QS911."""
        pair, augment = self._pairs[index], self._augment
        labels = Image.fromarray(self._labels(pair))
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
        target = {"mask": np.asarray(labels, np.int64)}
        return Sample(self._fed.normalize(image), target, meta, warnings)

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
        confusion = Confusion(len(CLASSES))
        for meta, prediction in predictions:
            mask = self.restore_mask(meta, np.asarray(prediction["mask"], np.uint8))
            confusion.add(self._labels(self._by_name[meta["id"]]), mask)
        return confusion.metrics(CLASSES)

    def _labels(self, pair: Pair) -> np.ndarray:
        """Train ids (height, width) uint8. Raises DiagnosticError QS911."""
        values = open_labels(pair.labels)
        if values.min() < 0 or values.max() > 255:
            raise DiagnosticError(_no_label(pair.labels, values))
        ids = values.astype(np.uint8)
        return ids if self._ids == "labelTrainIds" else _TRAIN_ID[ids]


def open_cityscapes(
    params: Mapping[str, Any], cache_dir: Path, base_dir: Path
) -> CityscapesSegmentation:
    """Open the registered data set `cityscapes_segmentation`; only made-up pictures are cached."""
    if "made_up" in params:
        made, folder = made_up.build(params, cache_dir, made_up.cityscapes)
        opened = open_cityscapes(made, cache_dir, folder)
        opened.diagnostics = made_up.told(params)
        return opened
    return CityscapesSegmentation(
        locate(params, base_dir)[: params.get("limit")],
        fed=ModelInput.of(params),
        ids=params.get("labels", "labelIds"),
        augment=Augment.of(params.get("augment", {})),
    )


def _no_label(path: Path, values: np.ndarray) -> Diagnostic:
    worst = values.max() if values.max() > 255 else values.min()
    return Diagnostic(
        code="QS911",
        message=f"cannot read the labels `{path.name}`: they hold {worst}, and a label is 0 to 255",
        help="give the files of labels, not of instances: `*_gtFine_labelIds.png`",
        span=Span(file=str(path)),
    )
