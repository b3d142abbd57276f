"""JSON schemas of the params: closed, every property described, defaults written here alone are
what a spec that leaves them out gets."""

from __future__ import annotations

from qatspec_vision.params.data import (
    CITYSCAPES as CITYSCAPES,
    COCO as COCO,
    IMAGEFOLDER as IMAGEFOLDER,
    LOADER as LOADER,
    PICTURE as PICTURE,
)
from qatspec_vision.params.detectors import FCOS as FCOS, YOLO_MODEL as YOLO_MODEL
from qatspec_vision.params.labels import MASKS as MASKS, TABLE as TABLE, VOC as VOC, YOLO as YOLO
from qatspec_vision.params.models import (
    DEEPLABV3PLUS as DEEPLABV3PLUS,
    EFFICIENTNET as EFFICIENTNET,
    TIMM as TIMM,
    TORCHVISION as TORCHVISION,
)
from qatspec_vision.params.schema import (
    closed as closed,
    integer as integer,
    integer_range as integer_range,
    number as number,
)
