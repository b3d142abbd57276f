"""The parts of the models with what their params' schemas fill in."""

from typing import Any

from qatspec_vision import params
from qatspec_vision.efficientnet import EfficientNet

from qatspec.schema import with_defaults


def fcos(key: str, **given: Any) -> dict[str, Any]:
    """Return the params below `key` of the model fcos, those not given from the schema."""
    filled: dict[str, Any] = with_defaults(params.FCOS["properties"][key], given)
    return filled


def backbone(**given: Any) -> EfficientNet:
    """Build the backbone of fcos."""
    settings = fcos("backbone", **given)
    del settings["type"]
    return EfficientNet(**settings)
