"""The params of the detectors."""

from __future__ import annotations

from qatspec_vision.params.models import BACKBONE, BATCH_NORM
from qatspec_vision.params.schema import Schema, closed, integer, judging, number

#: What dynamic assignment takes, beside the weight of its cost.
_TARGET: Schema = {
    "topk": integer("Most points a box takes.", 10),
    "center_radius": number(
        "Points within this number of strides of a box's centre are preferred.", 2.5
    ),
}


def _decoder(candidate: str, least: float, most: int, overlap: float) -> Schema:
    """Raw outputs to boxes. candidate: what `score_threshold` bounds; the others are defaults."""
    return judging(
        closed(
            "Raw outputs to boxes, after the chip.",
            {
                "score_threshold": number(candidate, least, most=1.0),
                "nms_pre": integer("Most candidates of one map.", most),
                "iou_threshold": number(
                    "Overlap above which the worse box goes.", overlap, most=1.0
                ),
                "max_detections": integer("Most boxes of one picture.", 100),
            },
        )
    )


FCOS = closed(
    "FCOS: EfficientNet, BiFPN, and a head shared across strides with a BN per stride.",
    {
        "num_classes": integer("Number of classes, without background."),
        "backbone": closed(
            "The feature extractor.",
            {
                **BACKBONE,
                "strides": {
                    "type": "array",
                    "minItems": 1,
                    "items": {"type": "integer", "minimum": 2},
                    "default": [8, 16, 32],
                    "description": "Strides of the maps that the neck takes, each twice the one "
                    "before.",
                },
            },
        ),
        "neck": closed(
            "BiFPN with unweighted sums.",
            {
                "channels": integer("Channels of every map.", 64),
                "stacks": integer("Number of top-down and bottom-up passes.", 3),
                "levels": integer(
                    "Number of maps; those beyond the backbone's halve the coarsest one.",
                    5,
                    least=2,
                ),
            },
        ),
        "head": closed(
            "Towers of separable convolutions shared across strides, a BN per stride.",
            {
                "channels": integer("Channels inside the towers.", 64),
                "convs": integer("Separable convolutions in each of the two towers.", 4, least=0),
            },
        ),
        "loss": closed(
            "Focal loss, GIoU loss and centerness, each per positive point.",
            {
                "alpha": number("Weight of positives in the focal loss.", 0.25, most=1.0),
                "gamma": number("Focusing exponent of the focal loss.", 2.0),
                "cls_weight": number("Weight of the focal loss.", 1.0),
                "reg_weight": number("Weight of the GIoU loss.", 1.0),
                "centerness_weight": number("Weight of the centerness loss.", 1.0),
            },
        ),
        "target": closed(
            "Dynamic assignment of points to boxes.",
            {
                **_TARGET,
                "giou_weight": number("Weight of the GIoU in the cost.", 2.0),
            },
        ),
        "decoder": _decoder("Least class score of a candidate.", 0.05, 1000, 0.6),
        "batch_norm": BATCH_NORM,
    },
    required=("num_classes",),
) | {
    "examples": [
        {
            "num_classes": 3,
            "backbone": {
                "stem": 8,
                "blocks": [
                    {"kernel": 3, "repeats": 1, "channels": 8, "expand": 2, "stride": 2}
                    for _ in range(3)
                ],
                "strides": [4, 8, 16],
            },
            "neck": {"channels": 16, "stacks": 1, "levels": 3},
            "head": {"channels": 16, "convs": 1},
        }
    ]
}

YOLO_MODEL = closed(
    "YOLO without anchor boxes, after YOLOX: CSPDarknet, PAN, a decoupled head at each stride.",
    {
        "num_classes": integer("Number of classes, without background."),
        "in_channels": integer("Channels of the picture.", 3),
        "width": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 0.5,
            "description": "Multiplies all channels. YOLOX: tiny 0.375, s 0.5, m 0.75, l 1, "
            "x 1.25.",
        },
        "depth": {
            "type": "number",
            "exclusiveMinimum": 0,
            "default": 0.33,
            "description": "Multiplies the bottlenecks of each CSP layer. YOLOX: tiny and s 0.33, "
            "m 0.67, l 1, x 1.33.",
        },
        "strides": {
            "type": "array",
            "minItems": 1,
            "items": {"type": "integer", "minimum": 4},
            "default": [8, 16, 32],
            "description": "Strides of the maps that objects are found on: a power of two, and "
            "each twice the one before.",
        },
        "activation": {
            "enum": ["relu", "relu6", "silu"],
            "default": "relu",
            "description": "Activation behind each convolution. relu and relu6 cost a chip "
            "nothing; silu, which YOLOX has, is a table that not every march computes "
            "(`qatspec plugins show MARCH`).",
        },
        "head": closed(
            "Towers of their own for classes and boxes, at each stride.",
            {
                "channels": integer("Channels inside the towers, before width scaling.", 256),
                "convs": integer("3x3 convolutions in each of the two towers.", 2, least=0),
            },
        ),
        "loss": closed(
            "Binary cross-entropies and a loss of boxes, each per positive point.",
            {
                "box": {
                    "enum": ["ciou", "giou"],
                    "default": "giou",
                    "description": "Boxes learn 1 - CIoU or 1 - GIoU.",
                },
                "cls_weight": number("Weight of the classes' cross-entropy.", 1.0),
                "reg_weight": number("Weight of the loss of boxes.", 5.0),
                "objectness_weight": number("Weight of the objectness's cross-entropy.", 1.0),
            },
        ),
        "target": closed(
            "Dynamic assignment of points to boxes (SimOTA).",
            {**_TARGET, "iou_weight": number("Weight of -log(IoU) in the cost.", 3.0)},
        ),
        "decoder": _decoder(
            "Least score of a candidate, class times objectness.", 0.01, 1000, 0.65
        ),
        "batch_norm": BATCH_NORM,
    },
    required=("num_classes",),
) | {"examples": [{"num_classes": 3, "width": 0.125, "strides": [8, 16]}]}
