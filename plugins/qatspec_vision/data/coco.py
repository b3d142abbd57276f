"""Detection sets in COCO's layout: the registered data set `coco_detection`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from qatspec.api import Diagnostic, DiagnosticError, Sample, Span
from qatspec_vision.data.augment import (
    Augment,
    Placement,
    fit,
    flip,
    place,
    place_boxes,
    random_placement,
    shift_hsv,
)
from qatspec_vision.data.layout import Layout, locate, read_annotations
from qatspec_vision.data.metric import average_precision

#: Input format -> Pillow's mode. YCbCr is full-range BT.601, centred at 128.
MODES = {"rgb": "RGB", "yuv444": "YCbCr", "gray": "L"}


class CocoDetection:
    """A detection set: annotations read once, pictures when asked for.

    size       (H, W) of the model's input; a picture keeps its ratio and is padded with the mean.
    format     rgb, yuv444 or gray: what the model is fed; `image = (pixel - mean) / std`.
    augment    random changes; none by default, as validation wants.
    limit      only the first so many pictures.

    Targets: boxes (M, 4) float32 xyxy in input pixels, labels (M,) int64, indices into `classes`
    (the file's categories by id). Crowds are no targets, but evaluate() knows them.
    `diagnostics` holds warnings on annotations that were left out (QS913).

    Raises DiagnosticError: QS910, QS912 (see read_annotations).
    """

    def __init__(
        self,
        layout: Layout,
        *,
        size: tuple[int, int],
        format: str = "rgb",  # noqa: A002  the spec's word
        mean: float = 128.0,
        std: float = 128.0,
        augment: Augment | None = None,
        limit: int | None = None,
    ) -> None:
        content = read_annotations(layout)
        self._folder = layout.images
        self._images = sorted(content["images"], key=lambda image: image["id"])[:limit]
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self._category_ids = [category["id"] for category in categories]
        self.classes: Sequence[str] = [str(category["name"]) for category in categories]

        usable, unusable = _split_usable(content)
        self.diagnostics = _warn_unusable(layout.annotations, unusable)
        self._truth = {
            "info": {},
            "images": self._images,
            "categories": categories,
            "annotations": [_complete(index, a) for index, a in enumerate(usable, start=1)],
        }
        self._targets = self._targets_by_image(usable)
        self._size, self._mode = size, MODES[format]
        self._mean, self._std = mean, std
        self._augment = augment or Augment()

    def __len__(self) -> int:
        return len(self._images)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The picture at `index`, augmented by `rng` alone. Raises DiagnosticError QS911."""
        entry = self._images[index]
        image = self._open(self._folder / entry["file_name"])
        boxes, labels = self._targets[entry["id"]]
        augment = self._augment

        flipped = bool(rng.random() < augment.flip)
        if flipped:
            image, boxes = flip(image, boxes)
        placement = random_placement((image.height, image.width), self._size, augment, rng)
        meta = self._meta(image, placement, entry["id"], flipped)
        image = place(image, self._size, placement, round(self._mean))
        boxes, seen = place_boxes(boxes, self._size, placement)
        boxes, labels = boxes[seen], labels[seen]
        if any(augment.hsv):
            image = shift_hsv(image, augment.hsv, rng)
        return Sample(self._normalize(image), {"boxes": boxes, "labels": labels}, meta)

    def read(self, path: Path) -> Sample:
        """Any picture, as `sample` gives one, without augmentation and targets: what inference
        feeds the model.
        Raises DiagnosticError QS911."""
        image = self._open(path)
        placement = fit((image.height, image.width), self._size)
        meta = self._meta(image, placement, path.name)
        placed = place(image, self._size, placement, round(self._mean))
        return Sample(self._normalize(placed), {}, meta)

    def restore(self, meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
        """Boxes (K, 4) of the model's input -> of the original picture, clipped to it."""
        offset = np.array([meta["x"], meta["y"]] * 2, np.float64)
        limit = np.array([meta["width"], meta["height"]] * 2, np.float64)
        restored: np.ndarray = np.clip((boxes - offset) / meta["scale"], 0, limit)
        if meta["flipped"]:
            restored[:, [0, 2]] = meta["width"] - restored[:, [2, 0]]
        return restored

    def evaluate(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, float]:
        """COCO's AP and its kin (see average_precision) over the pictures that were predicted."""
        detections = []
        for meta, prediction in predictions:
            boxes = self.restore(meta, np.asarray(prediction["boxes"]))
            corners_sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            detections += [
                {
                    "image_id": meta["id"],
                    "category_id": self._category_ids[int(label)],
                    "bbox": box,
                    "score": float(score),
                }
                for box, score, label in zip(
                    corners_sizes.tolist(), prediction["scores"], prediction["labels"], strict=True
                )
            ]
        return average_precision(self._truth, detections, [meta["id"] for meta, _ in predictions])

    def _targets_by_image(
        self, annotations: Sequence[Mapping[str, Any]]
    ) -> dict[Any, tuple[np.ndarray, np.ndarray]]:
        label_of = {category: label for label, category in enumerate(self._category_ids)}
        rows: dict[Any, list[tuple[list[float], int]]] = {i["id"]: [] for i in self._images}
        for annotation in annotations:
            if annotation["image_id"] in rows and not annotation.get("iscrowd"):
                x, y, w, h = annotation["bbox"]
                box = [x, y, x + w, y + h]
                rows[annotation["image_id"]].append((box, label_of[annotation["category_id"]]))
        return {
            image: (
                np.array([box for box, _ in found], np.float32).reshape(-1, 4),
                np.array([label for _, label in found], np.int64),
            )
            for image, found in rows.items()
        }

    def _open(self, path: Path) -> Image.Image:
        try:
            with Image.open(path) as image:
                opened: Image.Image = image.convert("RGB")
                return opened
        # Pillow's decoders raise all of these on damaged bytes.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise DiagnosticError(
                Diagnostic(
                    code="QS911",
                    message=f"cannot read the picture `{path.name}`: {error}",
                    help="restore the file, or take it out of the annotation file's `images`",
                    span=Span(file=str(path)),
                )
            ) from error

    def _normalize(self, image: Image.Image) -> np.ndarray:
        """uint8 picture -> float32 (C, H, W), contiguous."""
        pixels = np.asarray(image.convert(self._mode), np.float32).reshape(*self._size, -1)
        return np.ascontiguousarray(((pixels - self._mean) / self._std).transpose(2, 0, 1))

    @staticmethod
    def _meta(
        image: Image.Image, placement: Placement, identity: Any, flipped: bool = False
    ) -> dict[str, Any]:
        return {
            "id": identity,
            "scale": placement.scale,
            "x": placement.x,
            "y": placement.y,
            "flipped": flipped,
            "width": image.width,
            "height": image.height,
        }


def open_coco(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> CocoDetection:
    """Open the registered data set `coco_detection`; nothing is cached."""
    return CocoDetection(locate(params, base_dir), **loader_options(params))


def loader_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """CocoDetection's keywords from the params that every detection set shares
    (qatspec_vision.params.LOADER)."""
    options = {k: params[k] for k in ("format", "mean", "std", "limit") if k in params}
    size = params["size"]
    height, width = (size, size) if isinstance(size, int) else size
    given = params.get("augment", {})
    augment = Augment(
        flip=given.get("flip", 0.0),
        scale=tuple(given.get("scale", (1.0, 1.0))),
        hsv=tuple(given.get("hsv", (0.0, 0.0, 0.0))),
    )
    return {**options, "size": (height, width), "augment": augment}


def _split_usable(content: Mapping[str, Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    """Annotations that can be used, and (index, reason) of the others."""
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    usable, unusable = [], []
    for index, annotation in enumerate(content["annotations"]):
        if annotation["image_id"] not in images:
            unusable.append((index, f"no image has the id {annotation['image_id']!r}"))
        elif annotation["category_id"] not in categories:
            unusable.append((index, f"no category has the id {annotation['category_id']!r}"))
        elif not _is_box(annotation["bbox"]):
            unusable.append((index, f"bbox {annotation['bbox']!r} is empty"))
        else:
            usable.append(annotation)
    return usable, unusable


def _is_box(bbox: Any) -> bool:
    """Four finite numbers, width and height above zero."""
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(isinstance(v, int | float) and math.isfinite(v) for v in bbox)
        and min(bbox[2:]) > 0
    )


def _complete(index: int, annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What COCOeval needs: an id above zero (it takes 0 for "unmatched"), area and iscrowd."""
    box = annotation["bbox"]
    return {"area": box[2] * box[3], "iscrowd": 0, **annotation, "id": index}


def _warn_unusable(path: Path, unusable: Sequence[tuple[int, str]]) -> tuple[Diagnostic, ...]:
    if not unusable:
        return ()
    index, reason = unusable[0]
    return (
        Diagnostic(
            code="QS913",
            severity="warning",
            message=f"{len(unusable)} annotations left out, the first is number {index}: {reason}",
            help="mend or remove them; training and evaluation go on without them",
            span=Span(file=str(path)),
        ),
    )
