"""Detection sets in COCO's layout: the registered data set `coco_detection`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.api import (
    Diagnostic,
    ModelInput,
    Sample,
    Span,
    open_annotated_picture,
    restore_boxes,
)
from qatspec_vision.data import made_up
from qatspec_vision.data.annotations import cut, said
from qatspec_vision.data.augment import Augment, flip, place_boxes, random_placement, shift_hsv
from qatspec_vision.data.layout import Layout, locate, read_annotations
from qatspec_vision.data.metric import average_precision
from qatspec_vision.data.mosaic import Scene, mixup, mosaic
from qatspec_vision.data.picture import rotation_ignored

#: What COCOeval looks at, besides the id.
_EVALUATED = ("image_id", "category_id", "bbox", "area", "iscrowd")
#: No coordinate of a picture is larger; NaN and infinity are not smaller.
_LARGEST = 1e9


class CocoDetection:
    """A detection set: annotations read once, pictures when asked for.

    fed        what the model takes; a picture keeps its ratio and is padded with the mean.
    augment    random changes; none by default, as validation wants.
    limit      only the first so many pictures.

    Targets: boxes (M, 4) float32 xyxy in input pixels, labels (M,) int64, indices into `classes`
    (the file's categories by id). Crowds are no targets, but evaluate() knows them.
    `diagnostics` holds warnings: annotations were left out (QS913), there is no object (QS928).

    Raises DiagnosticError: QS910, QS912 (see read_annotations).
    """

    def __init__(
        self,
        layout: Layout,
        *,
        fed: ModelInput,
        augment: Augment | None = None,
        limit: int | None = None,
    ) -> None:
        content = read_annotations(layout)
        self._layout = layout
        self._images = sorted(content["images"], key=lambda image: image["id"])[:limit]
        categories = sorted(content["categories"], key=lambda category: category["id"])
        self._category_ids = [category["id"] for category in categories]
        self.classes: Sequence[str] = [str(category["name"]) for category in categories]

        usable, unusable = _split_usable(content)
        self.diagnostics: tuple[Diagnostic, ...] = _warn_unusable(layout.annotations, unusable)
        self._truth = {
            "info": {},
            "images": self._images,
            "categories": categories,
            "annotations": [_complete(index, a) for index, a in enumerate(usable, start=1)],
        }
        self._targets = self._targets_by_image(usable)
        if not any(len(labels) for _, labels in self._targets.values()):
            self.diagnostics += (_no_object(layout.annotations),)
        self._fed = fed
        self._augment = augment or Augment()
        self._active = self._augment.at(epoch=0)
        self._rotation_ignored = False

    def __len__(self) -> int:
        return len(self._images)

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        """The picture at `index`, augmented by `rng` alone; a mosaic or mixup has a meta without
        more than its id, as nothing restores it. Raises DiagnosticError QS911."""
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
        warnings = (rotation_ignored(self._layout.annotations),) if self._rotation_ignored else ()
        return Sample(self._fed.normalize(image), target, meta, warnings)

    def begin_epoch(self, epoch: int) -> None:
        """What follows is of this epoch of a stage: mosaic and mixup rest in the last ones."""
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
            self._layout.images / entry["file_name"], _stated_size(entry)
        )
        self._rotation_ignored |= as_stored
        boxes, labels = self._targets[entry["id"]]
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


def open_coco(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> CocoDetection:
    """Open the registered data set `coco_detection`; only made-up pictures are cached."""
    if "made_up" not in params:
        return CocoDetection(locate(params, base_dir), **loader_options(params))
    made, folder = made_up.build(params, cache_dir, made_up.coco)
    opened = open_coco(made, cache_dir, folder)
    opened.diagnostics += made_up.told(params)
    return opened


def loader_options(params: Mapping[str, Any]) -> dict[str, Any]:
    """CocoDetection's keywords from the params that every detection set shares
    (qatspec_vision.params.LOADER)."""
    return {
        "fed": ModelInput.of(params),
        "augment": Augment.of(params.get("augment", {})),
        "limit": params.get("limit"),
    }


def _split_usable(content: Mapping[str, Any]) -> tuple[list[Any], list[tuple[int, str]]]:
    """Annotations that can be used, and (index, reason) of the others."""
    images = {image["id"] for image in content["images"]}
    categories = {category["id"] for category in content["categories"]}
    usable, unusable = [], []
    for index, annotation in enumerate(content["annotations"]):
        if annotation["image_id"] not in images:
            unusable.append((index, f"no image has the id {annotation['image_id']}"))
        elif annotation["category_id"] not in categories:
            unusable.append((index, f"no category has the id {annotation['category_id']}"))
        elif not _is_box(annotation["bbox"]):
            box = annotation["bbox"]
            shown = f"[{', '.join(map(said, box))}]" if isinstance(box, list) else said(box)
            found = f"its bbox {cut(shown)} (image {annotation['image_id']})"
            unusable.append((index, f"{found} is no [x, y, width, height] of a picture"))
        else:
            usable.append(annotation)
    return usable, unusable


def _stated_size(entry: Mapping[str, Any]) -> tuple[int, int] | None:
    """(width, height) that an entry of `images` states; None where it states none."""
    size = entry.get("width"), entry.get("height")
    stated = all(size)
    return (int(size[0]), int(size[1])) if stated else None  # type: ignore[arg-type]


def _is_box(bbox: Any) -> bool:
    """Four numbers of a picture's size, width and height above zero."""
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(type(v) in (int, float) and abs(v) < _LARGEST for v in bbox)
        and min(bbox[2:]) > 0
    )


def _complete(index: int, annotation: Mapping[str, Any]) -> dict[str, Any]:
    """What COCOeval needs: an id above zero (it takes 0 for "unmatched"), area and iscrowd."""
    box = annotation["bbox"]
    known = {key: annotation[key] for key in _EVALUATED if key in annotation}
    return {"area": box[2] * box[3], "iscrowd": 0, **known, "id": index}


def _no_object(path: Path) -> Diagnostic:
    return Diagnostic(
        code="QS928",
        severity="warning",
        message=f"no picture of `{path.name}` has an object in it: there is nothing to find",
        help="check that the annotations are of these pictures (their `image_id`), and `limit`",
        span=Span(file=str(path)),
    )


def _warn_unusable(path: Path, unusable: Sequence[tuple[int, str]]) -> tuple[Diagnostic, ...]:
    if not unusable:
        return ()
    index, reason = unusable[0]
    return (
        Diagnostic(
            code="QS913",
            severity="warning",
            message=f"{len(unusable)} annotations left out, the first is annotations[{index}]: "
            f"{reason}",
            help="correct or remove them; training and evaluation go on without them",
            span=Span(file=str(path)),
        ),
    )
