"""What this plugin registers: the models `fcos`, `yolo`, `deeplabv3plus`, `efficientnet`,
`torchvision` and `timm`; the data sets `coco_detection`, `yolo_detection`, `voc_detection`,
`cityscapes_segmentation`, `mask_segmentation`, `imagefolder_classification` and
`csv_classification`; and checks of specs that use them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qatspec.api import DatasetDef, Finding, ModelDef, hookimpl, lazy
from qatspec_vision import params
from qatspec_vision.checks import (
    check_deeplab,
    check_efficientnet,
    check_fcos,
    check_loaders,
    check_yolo,
    num_classes,
)


@hookimpl
def qatspec_models() -> Iterable[ModelDef]:
    return (
        ModelDef(
            name="fcos",
            summary="anchor-free detector: EfficientNet (ReLU, no SE), BiFPN, shared head",
            params=params.FCOS,
            build=lazy("qatspec_vision.fcos.model:build"),
            classes=num_classes,
        ),
        ModelDef(
            name="yolo",
            summary="anchor-free detector: CSPDarknet, PAN, a decoupled head at each stride",
            params=params.YOLO_MODEL,
            build=lazy("qatspec_vision.yolo.model:build"),
            classes=num_classes,
        ),
        ModelDef(
            name="efficientnet",
            summary="classifier: EfficientNet with ReLU and without SE",
            params=params.EFFICIENTNET,
            build=lazy("qatspec_vision.classifier:build"),
            classes=num_classes,
        ),
        ModelDef(
            name="deeplabv3plus",
            summary="segmenter: EfficientNet (ReLU, no SE), atrous pyramid, decoder",
            params=params.DEEPLABV3PLUS,
            build=lazy("qatspec_vision.deeplab.model:build"),
            classes=num_classes,
        ),
        ModelDef(
            name="torchvision",
            summary="classifier of torchvision, where that is installed",
            params=params.TORCHVISION,
            build=lazy("qatspec_vision.library:build_torchvision"),
            classes=num_classes,
            by_name=lazy("qatspec_vision.named_models:torchvision_model"),
        ),
        ModelDef(
            name="timm",
            summary="classifier of timm, where that is installed",
            params=params.TIMM,
            build=lazy("qatspec_vision.library:build_timm"),
            classes=num_classes,
            by_name=lazy("qatspec_vision.named_models:timm_model"),
        ),
    )


@hookimpl
def qatspec_datasets() -> Iterable[DatasetDef]:
    return (
        DatasetDef(
            name="coco_detection",
            summary="detection set in COCO's layout, AP as by pycocotools",
            params=params.COCO,
            open=lazy("qatspec_vision.data.coco:open_coco"),
            fingerprint=lazy("qatspec_vision.data.layout:fingerprint"),
            classes=lazy("qatspec_vision.data.layout:class_names"),
            metric="AP",
            recognize=lazy("qatspec_vision.recognize.coco:recognize"),
            precedence=60,
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
        DatasetDef(
            name="cityscapes_segmentation",
            summary="segmentation set in Cityscapes' layout, mIoU",
            params=params.CITYSCAPES,
            open=lazy("qatspec_vision.data.cityscapes:open_cityscapes"),
            fingerprint=lazy("qatspec_vision.data.cityscapes_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.cityscapes_layout:class_names"),
            metric="mIoU",
            recognize=lazy("qatspec_vision.recognize.cityscapes:recognize"),
            precedence=70,
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
        DatasetDef(
            name="imagefolder_classification",
            summary="classification set in ImageNet's layout, top1 and top5",
            params=params.IMAGEFOLDER,
            open=lazy("qatspec_vision.data.imagefolder:open_imagefolder"),
            fingerprint=lazy("qatspec_vision.data.imagefolder_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.imagefolder_layout:class_names"),
            metric="top1",
            recognize=lazy("qatspec_vision.recognize.folders:recognize"),
            precedence=10,
            fitting=lazy("qatspec_vision.data.fitting:classified"),
        ),
        DatasetDef(
            name="yolo_detection",
            summary="detection set with YOLO's label files, AP as by pycocotools",
            params=params.YOLO,
            open=lazy("qatspec_vision.data.yolo:open_yolo"),
            fingerprint=lazy("qatspec_vision.data.yolo_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.yolo_layout:class_names"),
            metric="AP",
            recognize=lazy("qatspec_vision.recognize.yolo:recognize"),
            precedence=40,
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
        DatasetDef(
            name="voc_detection",
            summary="detection set with Pascal VOC's XML files, AP as by pycocotools",
            params=params.VOC,
            open=lazy("qatspec_vision.data.voc:open_voc"),
            fingerprint=lazy("qatspec_vision.data.voc_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.voc_layout:class_names"),
            metric="AP",
            recognize=lazy("qatspec_vision.recognize.voc:recognize"),
            precedence=50,
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
        DatasetDef(
            name="mask_segmentation",
            summary="segmentation set of pictures and masks of numbers or colours, mIoU",
            params=params.MASKS,
            open=lazy("qatspec_vision.data.masks:open_masks"),
            fingerprint=lazy("qatspec_vision.data.masks_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.masks_layout:class_names"),
            metric="mIoU",
            recognize=lazy("qatspec_vision.recognize.masks:recognize"),
            precedence=30,
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
        DatasetDef(
            name="csv_classification",
            summary="classification set of a table of pictures and classes, top1 and top5",
            params=params.TABLE,
            open=lazy("qatspec_vision.data.imagefolder:open_table"),
            fingerprint=lazy("qatspec_vision.data.table_layout:fingerprint"),
            classes=lazy("qatspec_vision.data.table_layout:class_names"),
            metric="top1",
            recognize=lazy("qatspec_vision.recognize.table:recognize"),
            precedence=20,
            fitting=lazy("qatspec_vision.data.fitting:classified"),
        ),
    )


@hookimpl
def qatspec_check(spec: Any, registry: Any) -> Iterable[Finding]:
    models = (check_fcos, check_yolo, check_deeplab, check_efficientnet)
    return (*(finding for check in models for finding in check(spec)), *check_loaders(spec))
