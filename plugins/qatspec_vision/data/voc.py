"""Detection sets with VOC's annotation files: the registered data set `voc_detection`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec_vision.data.detection import Annotated, DetectionSet, loader_options
from qatspec_vision.data.voc_layout import Annotation, locate, read_annotations


def open_voc(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> DetectionSet:
    """Open the registered data set `voc_detection`. Objects marked `difficult` are no targets, and
    finding them is neither right nor wrong.

    Raises DiagnosticError: QS910, QS958 for what is not an annotation."""
    layout = locate(params, base_dir)
    said, classes, warnings = read_annotations(layout, params, base_dir)
    label = {name: index for index, name in enumerate(classes)}
    images = [_entry(index, name, said[name]) for index, (name, _) in enumerate(layout.pairs)]
    annotated = Annotated(
        folder=layout.images,
        source=layout.annotations,
        images=images,
        categories=[{"id": index, "name": name} for name, index in label.items()],
        annotations=[
            {
                "image_id": entry["id"],
                "category_id": label[box.name],
                "bbox": box.bbox,
                "iscrowd": int(box.difficult),
            }
            for entry in images
            for box in said[entry["file_name"]].boxes
        ],
    )
    return DetectionSet(annotated, diagnostics=warnings, **loader_options(params))


def _entry(index: int, name: str, said: Annotation) -> dict[str, Any]:
    entry: dict[str, Any] = {"id": index, "file_name": name}
    if said.size is not None:
        entry["width"], entry["height"] = said.size
    return entry
