"""Pictures and label maps with the right numbers, whatever their files store."""

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
    "open_annotated_picture",
    "open_labels",
    "open_picture",
    "suffixes",
]
