"""JSON schemas of the params: closed, every property described, defaults written here alone are
what a spec that leaves them out gets."""

from __future__ import annotations

from qatspec_vision.params.data import CITYSCAPES, COCO, IMAGEFOLDER, LOADER, PICTURE
from qatspec_vision.params.labels import MASKS, TABLE, VOC, YOLO
from qatspec_vision.params.models import DEEPLABV3PLUS, EFFICIENTNET, FCOS, TIMM, TORCHVISION
from qatspec_vision.params.schema import closed, integer, integer_range, number

__all__ = [
    "CITYSCAPES", "COCO", "DEEPLABV3PLUS", "EFFICIENTNET", "FCOS", "IMAGEFOLDER", "LOADER",
    "MASKS", "PICTURE", "TABLE", "TIMM", "TORCHVISION", "VOC", "YOLO", "closed",
    "integer", "integer_range", "number",
]  # fmt: skip
