"""The parts of the models with what their params' schemas fill in."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qatspec_vision import params
from qatspec_vision.data import (
    cityscapes as cityscapes_set,
    coco as coco_set,
    imagefolder as folder_set,
)
from qatspec_vision.data.augment import Augment
from qatspec_vision.data.coco import CocoDetection
from qatspec_vision.data.imagefolder import ImageFolder
from qatspec_vision.data.segmentation import SegmentationSet
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


def coco(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params of coco_detection, those not given from the schema."""
    filled: dict[str, Any] = with_defaults(params.COCO, given)
    return filled


def cityscapes(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params of cityscapes_segmentation, those not given from the schema."""
    filled: dict[str, Any] = with_defaults(params.CITYSCAPES, given)
    return filled


def imagefolder(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the params of imagefolder_classification, those not given from the schema."""
    filled: dict[str, Any] = with_defaults(params.IMAGEFOLDER, given)
    return filled


def augment(**given: Any) -> Augment:
    """Return the random changes of a detection set, those not given from the schema."""
    return Augment.of(coco({"augment": given})["augment"])


def open_coco(given: Mapping[str, Any], cache: Path, base: Path) -> CocoDetection:
    """Open the set with the params that are given, the others from the schema."""
    return coco_set.open_coco(coco(given), cache, base)


def open_cityscapes(given: Mapping[str, Any], cache: Path, base: Path) -> SegmentationSet:
    """Open the set with the params that are given, the others from the schema."""
    return cityscapes_set.open_cityscapes(cityscapes(given), cache, base)


def open_imagefolder(given: Mapping[str, Any], cache: Path, base: Path) -> ImageFolder:
    """Open the set with the params that are given, the others from the schema."""
    return folder_set.open_imagefolder(imagefolder(given), cache, base)
