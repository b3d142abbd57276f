"""How `infer` reads pictures, and how predictions go back to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qatspec.diag.codes import QS923
from qatspec.picture import ModelInput, restore_boxes, restore_mask
from qatspec.registry import registry
from qatspec.spec import CHANNELS, InputSpec, Spec
from qatspec.train.protocol import check_sample
from qatspec.train.samples import AnySample
from qatspec.types import Sample

#: What qatspec.picture.Placement.meta gives.
_PLACED = ("scale_x", "scale_y", "x", "y", "width", "height")


class Reader:
    """The pictures of a spec's model: read by the data set of `data.val` where it has `read`, else
    as `model.input` says.

    Boxes and masks go back to the picture by the data set's `restore` and `restore_mask`; without
    these, by the placement in the sample's meta.
    """

    def __init__(self, spec: Spec, dataset: Any) -> None:
        self._spec, self._dataset = spec, dataset
        self._record = registry().dataset(spec.data["val"].dataset.type)
        self.classes: Sequence[str] = dataset.classes

    def read(self, path: Path) -> AnySample:
        """A picture file as the model takes it. Raises DiagnosticError, PluginFault."""
        if hasattr(self._dataset, "read"):
            with registry().attribute_errors_of(self._dataset, "read"):
                sample = self._dataset.read(path)
            return check_sample(self._dataset, sample, self._record, self._spec.inputs)
        (picture,) = self._spec.inputs.values()
        assert isinstance(picture, InputSpec)
        image, meta = model_input(picture).read(path)
        return Sample(image, {}, meta)

    def restore(self, meta: Mapping[str, Any], boxes: np.ndarray) -> np.ndarray:
        """Boxes (K, 4) xyxy of the model's input in the picture's pixels."""
        return self._back("restore", restore_boxes, meta, boxes)

    def restore_mask(self, meta: Mapping[str, Any], mask: np.ndarray) -> np.ndarray:
        """A mask (H, W) of the model's input in the picture's pixels."""
        return self._back("restore_mask", restore_mask, meta, mask)

    def _back(
        self, method: str, placed: Any, meta: Mapping[str, Any], value: np.ndarray
    ) -> np.ndarray:
        has_read = hasattr(self._dataset, "read")
        if has_read and hasattr(self._dataset, method):
            with registry().attribute_errors_of(self._dataset, method):
                return np.asarray(getattr(self._dataset, method)(meta, value))
        if set(_PLACED) <= meta.keys():
            return np.asarray(placed(meta, value))
        message = f"data set `{self._record.name}` has `read` and no `{method}`, and the meta that "
        message += "`read` gives has no placement (qatspec.api.ModelInput.read): nothing says "
        message += "where predictions lie in the picture"
        raise registry().interface_fault(message, "read", owner=self._dataset, record=self._record)


def model_input(image: InputSpec) -> ModelInput:
    """A picture among the model's inputs as what reads pictures. Raises DiagnosticError QS923 where
    its channels are not those of a picture."""
    wanted = CHANNELS[image.format]
    if image.channels != wanted:
        where = "`model.input`" if image.at == "/model/input" else f"`{image.at.split('/')[-1]}`"
        raise QS923.error(
            f"a picture has {wanted} channels as {image.format}, and {where} says {image.channels}",
            help="give an .npy array, or a data set with `read`",
            at=image.at,
        )
    keys = ("size", "format", "mean", "std", "resize")
    said = {key: getattr(image, key) for key in keys}
    return ModelInput.of({key: value for key, value in said.items() if value is not None})
