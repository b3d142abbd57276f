"""Classification sets: the data sets `imagefolder_classification` and `csv_classification`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import Diagnostic, ModelInput, PixelSample, Sample, open_picture
from qatspec_vision.data import fitting, made_up, table_layout
from qatspec_vision.data.augment import shift_hsv
from qatspec_vision.data.imagefolder_layout import Listing, locate
from qatspec_vision.data.transforms import Transforms


@dataclass(frozen=True, kw_only=True)
class ClassificationAugment:
    """Random changes of a training picture: keys of a classification set's `augment`.

    flip   probability of a left-right flip.
    area   [low, high] of the crop's share of the picture, its ratio of sides between 3/4 and 4/3
           (Szegedy et al., CVPR 2015); [1, 1]: the centre crop of validation.
    hsv    largest change of hue (of the whole circle), saturation and value (of themselves).
    """

    flip: float
    area: Sequence[float]
    hsv: Sequence[float]


class ImageFolder:
    """A classification set, its pictures read when asked for.

    fed      what the model takes.
    augment  random changes.
    transforms  further random changes.

    Target: label, int64 scalar.
    """

    diagnostics: tuple[Diagnostic, ...] = ()

    def __init__(
        self,
        listing: Listing,
        *,
        fed: ModelInput,
        augment: ClassificationAugment,
        transforms: Transforms | None = None,
    ) -> None:
        self._entries = listing.entries
        self.classes: Sequence[str] = listing.classes
        self._fed = fed
        self._augment = augment
        self._transforms = transforms

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def pictures(self) -> list[Path]:
        """The files of the pictures, in order."""
        return [path for path, _ in self._entries]

    def sample(self, index: int, rng: np.random.Generator) -> PixelSample:
        """The picture at `index`, augmented by `rng` alone. Raises DiagnosticError QS911."""
        path, label = self._entries[index]
        image, augment = open_picture(path), self._augment
        box = _random_box(image, augment.area, rng) if [*augment.area] != [1.0, 1.0] else None
        image = self._fed.cropped(image, box) if box else self._fed.fit(image)
        if rng.random() < augment.flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        if any(augment.hsv):
            image = shift_hsv(image, augment.hsv, rng)
        if self._transforms:
            image, _ = self._transforms(image, rng)
        meta = {"id": path.name, "label": label}
        return PixelSample(self._fed.pixels(image), {"label": np.array(label, np.int64)}, meta)

    def read(self, path: Path) -> Sample:
        """Any picture, as `sample` gives one, without augmentation and target.
        Raises DiagnosticError QS911."""
        image, meta = self._fed.read(path)
        return Sample(image, {}, meta)

    def evaluate(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, float]:
        """top1 and top5: share of pictures whose class is the best, or among the best five."""
        ranks = [_rank(np.asarray(p["scores"]), meta["label"]) for meta, p in predictions]
        return {f"top{k}": 100.0 * float(np.mean(np.array(ranks) < k)) for k in (1, 5)}

    def details(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, Any]:
        """Precision and recall of each class, and pictures by true and predicted class."""
        count = len(self.classes)
        confusion = np.zeros((count, count + 1), np.int64)
        for meta, prediction in predictions:
            best = int(np.argmax(prediction["scores"]))
            confusion[meta["label"], min(best, count)] += 1
        true, predicted = confusion.sum(axis=1), confusion[:, :count].sum(axis=0)
        right = np.diag(confusion)
        classes = {
            name: {
                **({"recall": 100.0 * right[i] / true[i]} if true[i] else {}),
                **({"precision": 100.0 * right[i] / predicted[i]} if predicted[i] else {}),
            }
            for i, name in enumerate(self.classes)
        }
        return {"classes": classes, "confusion": confusion.tolist()}


def open_imagefolder(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> ImageFolder:
    """Open the registered data set `imagefolder_classification`; only made-up pictures are
    cached."""
    if "made_up" in params:
        made, folder = made_up.build(params, cache_dir, made_up.imagefolder)
        drawn = open_imagefolder(made, cache_dir, folder)
        drawn.diagnostics = made_up.told(params)
        return drawn
    return opened(locate(params, base_dir), params)


def open_table(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> ImageFolder:
    """Open the registered data set `csv_classification`. Raises DiagnosticError QS910, QS958."""
    return opened(table_layout.locate(params, base_dir), params)


def opened(listing: Listing, params: Mapping[str, Any]) -> ImageFolder:
    """The set of the listed pictures, from the params that every classification set shares."""
    augment, fed = params["augment"], ModelInput.of({**params, **fitting.classified(params)})
    return ImageFolder(
        Listing(listing.entries[: params.get("limit")], listing.classes),
        fed=fed,
        transforms=Transforms.of(augment, fed),
        augment=ClassificationAugment(
            flip=augment["flip"], area=augment["area"], hsv=augment["hsv"]
        ),
    )


def _rank(scores: np.ndarray, label: int) -> int:
    """Place of `label` by descending score, from 0; of equal scores the first class goes first, as
    argmax has it (integer logits are often equal)."""
    score = scores[label]
    return int((scores > score).sum() + (scores[:label] == score).sum())


def _random_box(
    image: Image.Image, area: Sequence[float], rng: np.random.Generator
) -> tuple[float, float, float, float] | None:
    """A crop of random area and ratio; None where ten attempts do not fit."""
    for _ in range(10):
        pixels = image.width * image.height * rng.uniform(area[0], area[1])
        ratio = math.exp(rng.uniform(math.log(3 / 4), math.log(4 / 3)))
        w, h = round(math.sqrt(pixels * ratio)), round(math.sqrt(pixels / ratio))
        if 0 < w <= image.width and 0 < h <= image.height:
            left = int(rng.integers(0, image.width - w, endpoint=True))
            top = int(rng.integers(0, image.height - h, endpoint=True))
            return left, top, left + w, top + h
    return None
