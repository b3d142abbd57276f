"""Detection sets, whatever their files look like: pictures, boxes, and COCO's metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.api import (
    Diagnostic,
    ModelInput,
    PixelSample,
    Sample,
    Span,
    codes,
    open_annotated_picture,
    restore_boxes,
)
from qatspec_vision.data.augment import Augment, flip, place_boxes, random_placement, shift_hsv
from qatspec_vision.data.metric import Detections, Objects, average_precision, by_class
from qatspec_vision.data.mosaic import Scene, mixup, mosaic
from qatspec_vision.data.picture import rotation_ignored
from qatspec_vision.data.transforms import Transforms

#: Pixels that a box may reach out of its picture: tools round, and count from 0 or 1.
_ROUNDED = 2


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
        annotated: Annotated,
        *,
        fed: ModelInput,
        augment: Augment,
        transforms: Transforms | None = None,
        limit: int | None = None,
        diagnostics: tuple[Diagnostic, ...] = (),
    ) -> None:
        self._given = annotated
        self._images = sorted(annotated.images, key=lambda image: image["id"])[:limit]
        categories = sorted(annotated.categories, key=lambda category: category["id"])
        self._category_ids = [category["id"] for category in categories]
        self.classes: Sequence[str] = [str(category["name"]) for category in categories]
        self.diagnostics = diagnostics
        self._targets = self._targets_by_image(annotated.annotations)
        if not any(len(labels) for _, labels in self._targets.values()):
            self.diagnostics += (_no_object(annotated.source),)
        self.diagnostics += (
            *_over_the_edge(annotated),
            *_same_names(annotated.source, self.classes),
        )
        self._fed = fed
        self._augment = augment
        self._active = self._augment.at(epoch=0)
        self._transforms = transforms
        self._rotation_ignored = False

    def __len__(self) -> int:
        return len(self._images)

    @property
    def pictures(self) -> list[Path]:
        """The files of the pictures, in order."""
        return [self._given.folder / image["file_name"] for image in self._images]

    def sample(self, index: int, rng: np.random.Generator) -> PixelSample:
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
        return PixelSample(self._fed.pixels(image), target, meta, warnings)

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
        boxes, visible = place_boxes(boxes, fed.size, placement)
        return Scene(
            placement.paste(image, fed.size, fed.fill), boxes[visible], labels[visible]
        ), meta

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
        return average_precision(*self._judged(predictions), len(self.classes))

    def details(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> dict[str, Any]:
        """AP and AP50 of each class, and its precision over recall at IoU 0.5."""
        return by_class(*self._judged(predictions), self.classes)

    def _judged(
        self, predictions: Sequence[tuple[Mapping[str, Any], Mapping[str, np.ndarray]]]
    ) -> tuple[Objects, Detections]:
        # Of equal scores the picture of the lower id comes first, as pycocotools has it.
        ids = sorted({meta["id"] for meta, _ in predictions})
        number_of = {image: index for index, image in enumerate(ids)}
        rows = []
        for meta, prediction in predictions:
            boxes = self.restore(meta, np.asarray(prediction["boxes"]))
            images = np.full(len(boxes), number_of[meta["id"]])
            corners_sizes = (boxes[:, :2], boxes[:, 2:] - boxes[:, :2])
            columns = (images, prediction["labels"], *corners_sizes, prediction["scores"])
            rows.append(np.column_stack(columns).astype(np.float64))
        table = np.concatenate([np.zeros((0, 7)), *rows])
        table = table[table[:, 1] < len(self.classes)]  # no class without a category
        image, label = table[:, :2].astype(np.int64).T
        detections = Detections(image, label, table[:, 2:6], table[:, 6])
        return self._true(predictions, number_of), detections

    def _true(
        self,
        predictions: Sequence[tuple[Mapping[str, Any], Any]],
        number_of: Mapping[Any, int],
    ) -> Objects:
        """The objects in the pictures that were predicted, in their pixels.

        number_of: the number of each picture, by its id."""
        sizes = {meta["id"]: (meta["width"], meta["height"]) for meta, _ in predictions}
        label_of = {category: label for label, category in enumerate(self._category_ids)}
        rows = []
        for annotation in self._given.annotations:
            image, box = annotation["image_id"], annotation["bbox"]
            if image not in number_of:
                continue
            if self._given.relative:
                box = [share * side for share, side in zip(box, sizes[image] * 2, strict=True)]
            area = annotation.get("area", box[2] * box[3])
            label, crowd = label_of[annotation["category_id"]], annotation.get("iscrowd", 0)
            rows.append([number_of[image], label, *box, area, crowd])
        table = np.array(rows, np.float64).reshape(-1, 8)
        image, label = table[:, :2].astype(np.int64).T
        return Objects(image, label, table[:, 2:6], table[:, 6], table[:, 7] != 0)

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
                np.array([box for box, _ in objects], np.float32).reshape(-1, 4),
                np.array([label for _, label in objects], np.int64),
            )
            for image, objects in rows.items()
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


def _over_the_edge(annotated: Annotated) -> tuple[Diagnostic, ...]:
    """The warning QS913 that boxes reach out of their pictures, whose sizes are stated."""
    if annotated.relative:  # shares of a picture are checked where they are read
        return ()
    sizes = {image["id"]: _stated_size(image) for image in annotated.images}
    outside = []
    for annotation in annotated.annotations:  # COCO has 860,000
        if size := sizes.get(annotation["image_id"]):
            x, y, width, height = annotation["bbox"]
            right, bottom = x + width - size[0], y + height - size[1]
            if max(-x, -y, right, bottom) > _ROUNDED:
                outside.append((annotation, size))
    if not outside:
        return ()
    first, size = outside[0]
    name = next(i["file_name"] for i in annotated.images if i["id"] == first["image_id"])
    x, y, width, height = (float(v) for v in first["bbox"])
    return (
        codes.QS913.warning(
            f"{len(outside)} boxes reach out of their pictures, the first of `{name}`: from "
            f"({x:g}, {y:g}) to ({x + width:g}, {y + height:g}), in {size[0]} x {size[1]} pixels",
            help="correct them; training cuts off what lies outside, and a box of which little is "
            "left is no target",
            span=Span(file=str(annotated.source)),
        ),
    )


def _same_names(path: Path, classes: Sequence[str]) -> tuple[Diagnostic, ...]:
    """A warning of categories that have one name; a file of Roboflow often has two."""
    several = [name for name, count in Counter(classes).items() if count > 1]
    if not several:
        return ()
    numbers = [i for i, name in enumerate(classes) if name == several[0]]
    return (
        codes.QS958.warning(
            f"categories {numbers[0]} and {numbers[1]} of `{path.name}` have the same name, "
            f"`{several[0]}`: they are trained and judged as two classes",
            help="give each category a name that no other has, or use one id for both",
            span=Span(file=str(path)),
        ),
    )


def _no_object(path: Path) -> Diagnostic:
    return codes.QS928.warning(
        f"no picture of `{path.name}` has an object in it: there is nothing to find",
        help="check that the annotations are of these pictures and `limit`",
        span=Span(file=str(path)),
    )
