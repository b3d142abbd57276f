"""What this plugin registers: the models `fcos` and `efficientnet`, the data set
`coco_detection`, and checks of specs that use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qatspec.api import DatasetDef, Finding, ModelDef, hookimpl, lazy
from qatspec_vision import params
from qatspec_vision.checks import check_fcos, check_loaders


@hookimpl
def qatspec_models() -> Iterable[ModelDef]:
    return (
        ModelDef(
            name="fcos",
            summary="anchor-free detector: EfficientNet (ReLU, no SE), BiFPN, shared head",
            params=params.FCOS,
            build=lazy("qatspec_vision.fcos.model:build"),
        ),
        ModelDef(
            name="efficientnet",
            summary="classifier: EfficientNet with ReLU and without SE",
            params=params.EFFICIENTNET,
            build=lazy("qatspec_vision.efficientnet:build"),
        ),
    )


@hookimpl
def qatspec_datasets() -> Iterable[DatasetDef]:
    return (
        DatasetDef(
            name="coco_detection",
            summary="detection set in COCO's layout, AP by pycocotools",
            params=params.COCO,
            open=lazy("qatspec_vision.data.coco:open_coco"),
            fingerprint=lazy("qatspec_vision.data.layout:fingerprint"),
            metric="AP",
        ),
    )


@hookimpl
def qatspec_check(spec: Any, registry: Any) -> Iterable[Finding]:
    return (*check_fcos(spec), *check_loaders(spec))
