"""Detection sets, whatever their files look like: pictures, boxes, and COCO's metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.api import (
    Diagnostic,
    ModelInput,
    Sample,
    Span,
    codes,
    open_annotated_picture,
    restore_boxes,
)
from qatspec_vision.data.augment import Augment, flip, place_boxes, random_placement, shift_hsv
from qatspec_vision.data.metric import average_precision
from qatspec_vision.data.mosaic import Scene, mixup, mosaic
from qatspec_vision.data.picture import rotation_ignored
from qatspec_vision.data.transforms import Transforms

#: What COCOeval looks at, besides the id.
_EVALUATED = ("image_id", "category_id", "bbox", "area", "iscrowd")


@dataclass(frozen=True, kw_only=True)
class Annotated:
    """What the files of a detection set say, in COCO's form (cocodataset.org/#format-data).

    folder       what the pictures' names are relative to.
    source       the file or folder that warnings name.
    images       {id, file_name, and width and height where they are known} each.
    categories   {id, name} each; labels are their places by id.
    annotations  {image_id, category_id, bbox (x, y, width, height), and iscrowd and area, if any}.
    relative     bboxes are shares of the picture's width and height, not pixels.
    """

    folder: Path
    source: Path
    images: Sequence[Mapping[str, Any]]
    categories: Sequence[Mapping[str, Any]]
    annotations: Sequence[Mapping[str, Any]]
    relative: bool = False


class DetectionSet:
    """A detection set: annotations read once, pictures when asked for.

    given        what the files say.
    fed          what the model takes.
    augment      random changes.
    transforms   further random changes.
    limit        only the first so many pictures.
    diagnostics  warnings of what read the files.

    Targets: boxes (M, 4) float32 xyxy in input pixels, labels (M,) int64, indices into `classes`.
    Crowds are no targets, but evaluate() knows them. `diagnostics` also warns where there is no
    object at all (QS928).
    """

    def __init__(
        self,
        given: Annotated,
        *,
        fed: ModelInput,
        augment: Augment,
        transforms: Transforms | None = None,
        limit: int | None = None,
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        self._given = given
        self._images = sorted(given.images, key=lambda image: image["id"])[:limit]
        categories = sorted(given.categories, key=lambda category: category["id"])
        self._category_ids = [category["id"] for category in categories]
        self.classes: Sequence[str] = [str(category["name"]) for category in categories]
        self.diagnostics = diagnostics
        self._truth = {
            "info": {},
            "images": self._images,
            "categories": categories,
            "annotations": list(given.annotations),
        }
        self._targets = self._targets_by_image(given.annotations)
        if not any(len(labels) for _, labels in self._targets.values()):
            self.diagnostics += (_no_object(given.source),)
        self._fed = fed
        self._augment = augment
        self._active = self._augment.at(epoch=0)
        self._transforms = transforms
        self._rotation_ignored = False

    def __len__(self) -> int:
        return len(self._images)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The picture at `index`, augmented by `rng` alone; a mosaic, mixup or what torchvision
        changed has a meta without more than its id, as nothing restores it.
        Raises DiagnosticError QS911."""
        augment = self._active
        scene, meta = self._composed(index, rng)
        # A probability of 0 draws nothing, so that what is not asked for changes no other picture.
        if augment.mixup and rng.random() < augment.mixup:
            scene = mixup(scene, self._composed(self._any(rng), rng)[0], rng)
            meta = {"id": meta["id"]}
        image = scene.image
        if any(augment.hsv):
            image = shift_hsv(image, augment.hsv, rng)
        target: dict[str, np.ndarray] = {"boxes": scene.boxes, "labels": scene.labels}
        if self._transforms:
            image, target = self._transforms(image, rng, **target)
            meta = {"id": meta["id"]}
        warnings = (rotation_ignored(self._given.source),) if self._rotation_ignored else ()
        return Sample(self._fed.normalize(image), target, meta, warnings)

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch of the stage (from 0); mosaic and mixup are off in the last epochs."""
        self._active = self._augment.at(epoch)

    def _composed(self, index: int, rng: np.random.Generator) -> tuple[Scene, dict[str, Any]]:
        """A picture of the input's size, or a mosaic."""
        fed, augment = self._fed, self._active
        if augment.mosaic and rng.random() < augment.mosaic:
            indices = [index, *(self._any(rng) for _ in range(3))]
            scenes = [self._opened(i, rng)[0] for i in indices]
            return mosaic(scenes, fed, augment.scale, rng), {"id": self._images[index]["id"]}
        (image, boxes, labels), flipped = self._opened(index, rng)
        placement = random_placement(image, fed, augment, rng)
        identity = {"id": self._images[index]["id"], "flipped": flipped}
        meta = {**identity, **placement.meta(image)}
        boxes, seen = place_boxes(boxes, fed.size, placement)
        return Scene(placement.paste(image, fed.size, fed.fill), boxes[seen], labels[seen]), meta

    def _opened(self, index: int, rng: np.random.Generator) -> tuple[Scene, bool]:
        """A picture as it is on disk, or flipped, and which."""
        entry = self._images[index]
        image, as_stored = open_annotated_picture(
            self._given.folder / entry["file_name"], _stated_size(entry)
        )
        self._rotation_ignored |= as_stored
        boxes, labels = self._targets[entry["id"]]
        if self._given.relative:
            boxes = boxes * np.array([image.width, image.height] * 2, np.float32)
        flipped = bool(rng.random() < self._active.flip)
        if flipped:
            image, boxes = flip(image, boxes)
        return Scene(image, boxes, labels), flipped

    def _any(self, rng: np.random.Generator) -> int:
        return int(rng.integers(len(self._images)))

    def read(self, path: Path) -> Sample:
        """Any picture, as `sample` gives one, without augmentation and targets: what inference
        feeds the model.
        Raises DiagnosticError QS911."""
        image, meta = self._fed.read(path)
        return Sample(image, {}, meta)

    def restore(self, meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
        """Boxes (K, 4) of the model's input -> of the original picture, clipped to it."""
        return restore_boxes(meta, boxes)

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
                if label < len(self._category_ids)  # COCO knows no class without a category
            ]
        metas = [meta for meta, _ in predictions]
        return average_precision(self._true(metas), detections, [meta["id"] for meta in metas])

    def _true(self, metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """The truth about the pictures of `metas`, in their pixels, as COCOeval takes it."""
        found = self._truth["annotations"]
        if self._given.relative:
            sizes = {meta["id"]: (meta["width"], meta["height"]) for meta in metas}
            found = [
                {**a, "bbox": _scaled(a["bbox"], sizes[a["image_id"]])}
                for a in found
                if a["image_id"] in sizes
            ]
        complete = [_complete(index, a) for index, a in enumerate(found, start=1)]
        return {**self._truth, "annotations": complete}

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


def loader_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """DetectionSet's keywords from the params that every detection set shares
    (qatspec_vision.params.LOADER)."""
    fed = ModelInput.of(params)
    return {
        "fed": fed,
        "augment": Augment.of(params["augment"]),
        "transforms": Transforms.of(params["augment"], fed),
        "limit": params.get("limit"),
    }


def _stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) that an entry of `images` states; None where it states none."""
    size = entry.get("width"), entry.get("height")
    stated = all(size)
    return (int(size[0]), int(size[1])) if stated else None  # type: ignore[arg-type]


def _complete(index: int, annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What COCOeval needs: an id above zero (it takes 0 for "unmatched"), area and iscrowd."""
    box = annotation["bbox"]
    known = {key: annotation[key] for key in _EVALUATED if key in annotation}
    return {"area": box[2] * box[3], "iscrowd": 0, **known, "id": index}


def _scaled(bbox: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Shares of a picture of `size` (width, height) as pixels."""
    return [share * side for share, side in zip(bbox, size * 2, strict=True)]


def _no_object(path: Path) -> Diagnostic:
    return codes.QS928.warning(
        f"no picture of `{path.name}` has an object in it: there is nothing to find",
        help="check that the annotations are of these pictures and `limit`",
        span=Span(file=str(path)),
    )
