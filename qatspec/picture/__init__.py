"""Pictures and label maps with the right numbers, whatever their files store."""

from qatspec.picture.model_input import ModelInput as ModelInput
from qatspec.picture.pixels import Pixels as Pixels
from qatspec.picture.placement import (
    Placement as Placement,
    restore_boxes as restore_boxes,
    restore_mask as restore_mask,
)
from qatspec.picture.reading import (
    AnnotatedPicture as AnnotatedPicture,
    open_annotated_picture as open_annotated_picture,
    open_labels as open_labels,
    open_picture as open_picture,
    suffixes as suffixes,
)
from qatspec.picture.stored import MAX_PIXELS as MAX_PIXELS
