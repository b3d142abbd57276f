"""JSON schemas of the params: closed, every property described, defaults written here alone are
what a spec that leaves them out gets."""

from __future__ import annotations

from typing import Any

from qatspec_vision.blocks import VARIANTS

Schema = dict[str, Any]


def closed(description: str, properties: Schema, *, required: tuple[str, ...] = ()) -> Schema:
    """An object that takes these properties and no others; `{}` where nothing is required."""
    schema = {
        "type": "object",
        "description": description,
        "additionalProperties": False,
        "properties": properties,
    }
    return {**schema, "required": list(required)} if required else {**schema, "default": {}}


def integer(description: str, default: int | None = None, *, least: int = 1) -> Schema:
    """A whole number of at least `least`; required where there is no default."""
    schema: Schema = {"type": "integer", "minimum": least, "description": description}
    return schema if default is None else {**schema, "default": default}


def number(
    description: str, default: float, *, least: float = 0.0, most: float | None = None
) -> Schema:
    """A number from `least` to `most`."""
    limit = {} if most is None else {"maximum": most}
    return {
        "type": "number", "minimum": least, **limit, "default": default, "description": description
    }  # fmt: skip


BLOCK = closed(
    "One stage: MBConv blocks, the first of which has the stride.",
    {
        "kernel": {"enum": [3, 5, 7], "description": "Kernel of the depthwise convolution."},
        "repeats": integer("Number of blocks, before depth scaling."),
        "channels": integer("Output channels, before width scaling."),
        "expand": integer("Hidden channels as a multiple of the input's."),
        "stride": {"enum": [1, 2], "description": "Stride of the first block."},
    },
    required=("kernel", "repeats", "channels", "expand", "stride"),
)

_BACKBONE: Schema = {
    "type": {
        "enum": ["efficientnet"],
        "default": "efficientnet",
        "description": "The family: EfficientNet with ReLU, without squeeze-and-excitation.",
    },
    "variant": {
        "enum": sorted(VARIANTS),
        "default": "b0",
        "description": "Width and depth coefficients of the paper.",
    },
    "width": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Multiplies all channels; overrides the variant's.",
    },
    "depth": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "Multiplies all repeats; overrides the variant's.",
    },
    "blocks": {
        "type": "array",
        "minItems": 1,
        "items": BLOCK,
        "description": "The stages after the stem; overrides the family's seven.",
    },
    "stem": integer("Channels of the first convolution (3x3, stride 2), before width scaling.", 32),
    "in_channels": integer("Channels of the picture.", 3),
}

FCOS = closed(
    "FCOS: EfficientNet, BiFPN, and a head shared across strides with a BN per stride.",
    {
        "num_classes": integer("Number of classes, without background."),
        "backbone": closed(
            "The feature extractor.",
            {
                **_BACKBONE,
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
                "topk": integer("Most points a box takes.", 10),
                "giou_weight": number("Weight of the GIoU in the cost.", 2.0),
                "center_radius": number(
                    "Points within so many strides of a box's middle go first.", 2.5
                ),
            },
        ),
        "decoder": closed(
            "Raw outputs to boxes, after the chip.",
            {
                "score_threshold": number("Least class score of a candidate.", 0.05, most=1.0),
                "nms_pre": integer("Most candidates of one map.", 1000),
                "iou_threshold": number("Overlap above which the worse box goes.", 0.6, most=1.0),
                "max_detections": integer("Most boxes of one picture.", 100),
            },
        ),
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

EFFICIENTNET = closed(
    "EfficientNet classifier.",
    {
        "num_classes": integer("Number of classes.", 1000),
        "backbone": closed("The feature extractor.", _BACKBONE),
        "features": integer("Channels of the 1x1 convolution before the pooling.", 1280),
        "dropout": number("Dropout before the classifier, in training.", 0.2, most=1.0),
    },
)


def _range(description: str, default: list[float]) -> Schema:
    return {
        "type": "array",
        "items": {"type": "number", "exclusiveMinimum": 0},
        "minItems": 2,
        "maxItems": 2,
        "default": default,
        "description": description,
    }


#: What every detection set takes beside the place of its files.
LOADER: Schema = {
    "size": {
        "description": "Input height and width in pixels, or one number for both.",
        "anyOf": [
            {"type": "integer", "minimum": 1},
            {
                "type": "array",
                "items": {"type": "integer", "minimum": 1},
                "minItems": 2,
                "maxItems": 2,
            },
        ],
    },
    "format": {
        "enum": ["rgb", "yuv444", "gray"],
        "default": "rgb",
        "description": "What the model is fed; yuv444 is full-range BT.601.",
    },
    "mean": {
        "type": "number",
        "default": 128.0,
        "description": "image = (pixel - mean) / std; padding is mean.",
    },
    "std": {
        "type": "number",
        "exclusiveMinimum": 0,
        "default": 128.0,
        "description": "image = (pixel - mean) / std.",
    },
    "augment": closed(
        "Random changes of training pictures; left out, nothing is changed.",
        {
            "flip": number("Probability of a left-right flip.", 0.0, most=1.0),
            "scale": _range(
                "Range of the resize factor relative to fitting the input; larger pictures are "
                "cropped.",
                [1.0, 1.0],
            ),
            "hsv": {
                "type": "array",
                "items": {"type": "number", "minimum": 0, "maximum": 1},
                "minItems": 3,
                "maxItems": 3,
                "default": [0.0, 0.0, 0.0],
                "description": "Largest change of hue (of the circle), saturation and value.",
            },
        },
    ),
    "limit": {
        "type": "integer",
        "minimum": 1,
        "description": "Take only the first so many pictures.",
    },
}

COCO = closed(
    "A detection set in COCO's standard layout.",
    {
        "root": {"type": "string", "description": "The set's folder, relative to the spec."},
        "split": {
            "type": "string",
            "description": "Name in the layout: train2017, val2017, ...",
        },
        "annotations": {
            "type": "string",
            "default": "annotations/instances_{split}.json",
            "description": "The annotation file, relative to root.",
        },
        "images": {
            "type": "string",
            "default": "{split}",
            "description": "The folder of the pictures, relative to root.",
        },
        **LOADER,
    },
    required=("root", "split", "size"),
)
