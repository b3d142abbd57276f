"""Detection sets in COCO's layout: the registered data set `coco_detection`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qatspec.api import Diagnostic, Span, codes
from qatspec_vision.data import made_up
from qatspec_vision.data.annotations import cut, said
from qatspec_vision.data.detection import Annotated, DetectionSet, loader_options
from qatspec_vision.data.files import chosen_part
from qatspec_vision.data.layout import Layout, locate, read_annotations
from qatspec_vision.params import COCO

#: No coordinate of a picture is larger; NaN and infinity are not smaller.
_LARGEST = 1e9
#: Where made-up sets have their parts: the schema's own layout, whatever the params say.
_STANDARD = {key: COCO["properties"][key]["default"] for key in ("annotations", "images")}


class CocoDetection(DetectionSet):
    """The set of an annotation file; labels are its categories by id. params: `part` of them
    chooses pictures.

    `diagnostics` warns of annotations that were left out (QS913).
    Raises DiagnosticError: QS910, QS912 (see read_annotations).
    """

    def __init__(
        self, layout: Layout, params: Mapping[str, Any] | None = None, **options: Any
    ) -> None:
        content = read_annotations(layout)
        part = chosen_part((image["file_name"] for image in content["images"]), params or {})
        images = [image for image in content["images"] if image["file_name"] in part]
        usable, unusable = _split_usable(content)
        annotated = Annotated(
            folder=layout.images,
            source=layout.annotations,
            images=images,
            categories=content["categories"],
            annotations=usable,
        )
        warnings = _warn_unusable(layout.annotations, unusable)
        super().__init__(annotated, diagnostics=warnings, **options)


def open_coco(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> CocoDetection:
    """Open the registered data set `coco_detection`; only made-up pictures are cached."""
    if "made_up" not in params:
        return CocoDetection(locate(params, base_dir), params, **loader_options(params))
    made, folder = made_up.build(params, cache_dir, made_up.coco)
    opened = open_coco({**made, **_STANDARD}, cache_dir, folder)
    opened.diagnostics += made_up.told(params)
    return opened


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
            what = f"its bbox {cut(shown)} (image {annotation['image_id']})"
            unusable.append((index, f"{what} is no [x, y, width, height] of a picture"))
        else:
            usable.append(annotation)
    return usable, unusable


def _is_box(bbox: Any) -> bool:
    """Four numbers of a picture's size, width and height above zero."""
    return (
        isinstance(bbox, list)
        and len(bbox) == 4
        and all(type(v) in (int, float) and abs(v) < _LARGEST for v in bbox)
        and min(bbox[2:]) > 0
    )


def _warn_unusable(path: Path, unusable: Sequence[tuple[int, str]]) -> tuple[Diagnostic, ...]:
    if not unusable:
        return ()
    index, reason = unusable[0]
    return (
        codes.QS913.warning(
            f"{len(unusable)} annotations are omitted, the first is annotations[{index}]: {reason}",
            help="correct or remove them; training and evaluation continue without them",
            span=Span(file=str(path)),
        ),
    )
