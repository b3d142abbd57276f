"""Pictures and label maps with the right numbers, whatever their files store."""

from qatspec.picture.model_input import ModelInput
from qatspec.picture.placement import Placement, restore_boxes, restore_mask
from qatspec.picture.reading import (
    AnnotatedPicture,
    open_annotated_picture,
    open_labels,
    open_picture,
    suffixes,
)
from qatspec.picture.stored import MAX_PIXELS

__all__ = [
    "MAX_PIXELS",
    "AnnotatedPicture",
    "ModelInput",
    "Placement",
    "open_annotated_picture",
    "open_labels",
    "open_picture",
    "restore_boxes",
    "restore_mask",
    "suffixes",
]
