"""Detection sets with YOLO's label files: the registered data set `yolo_detection`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec_vision.data.detection import Annotated, DetectionSet, loader_options
from qatspec_vision.data.yolo_layout import locate, read_labels


def open_yolo(params: Mapping[str, Any], cache_dir: Path, base_dir: Path) -> DetectionSet:
    """Open the registered data set `yolo_detection`.

    Raises DiagnosticError: QS910, QS958 for lines that are not labels."""
    layout = locate(params, base_dir)
    boxes, warnings = read_labels(layout)
    number = {pair.name: index for index, pair in enumerate(layout.pairs)}
    annotated = Annotated(
        folder=layout.images,
        source=layout.labels,
        images=[{"id": index, "file_name": name} for name, index in number.items()],
        categories=[{"id": label, "name": name} for label, name in enumerate(layout.classes)],
        annotations=[
            {"image_id": number[name], "category_id": box.label, "bbox": box.bbox}
            for name, of_picture in boxes.items()
            for box in of_picture
        ],
        relative=True,
    )
    return DetectionSet(annotated, diagnostics=warnings, **loader_options(params))
