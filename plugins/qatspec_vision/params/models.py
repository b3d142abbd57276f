"""The params of classifiers and segmenters, and what all models share."""

from __future__ import annotations

from qatspec_vision.blocks import VARIANTS
from qatspec_vision.params.schema import Schema, closed, integer, number

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


def _integers(description: str, default: list[int]) -> Schema:
    return {
        "type": "array",
        "minItems": 1,
        "items": {"type": "integer", "minimum": 1},
        "default": default,
        "description": description,
    }


BACKBONE: Schema = {
    "type": {
        "enum": ["efficientnet"],
        "default": "efficientnet",
        "description": "The family: EfficientNet without squeeze-and-excitation and swish.",
    },
    "variant": {
        "enum": sorted(VARIANTS),
        "default": "b0",
        "description": "Member of the family: width, depth and stages. b: the paper's; m: for "
        "segmentation; lite: EfficientNet-Lite (ReLU6, stem and head not scaled).",
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
        "description": "The stages after the stem; overrides the variant's.",
    },
    "stem": integer("Channels of the first convolution (3x3, stride 2), before width scaling.", 32),
    "in_channels": integer("Channels of the picture.", 3),
    "padding": {
        "enum": ["symmetric", "same"],
        "default": "symmetric",
        "description": "At stride 2: alike on all sides, or as TensorFlow pads, for its weights.",
    },
}

BATCH_NORM = closed(
    "Constants of every batch norm.",
    {
        "eps": number("Added to the variance.", 1e-5),
        "momentum": number("Share of a batch in the running statistics.", 0.1, most=1.0),
    },
)

EFFICIENTNET = closed(
    "EfficientNet classifier.",
    {
        "num_classes": integer("Number of classes.", 1000),
        "backbone": closed("The feature extractor.", BACKBONE),
        "features": integer("Channels of the 1x1 convolution before the pooling.", 1280),
        "dropout": number("Dropout before the classifier, in training.", 0.2, most=1.0),
        "batch_norm": BATCH_NORM,
    },
)

DEEPLABV3PLUS = closed(
    "DeepLabV3+: EfficientNet, atrous pyramid, a decoder that adds the map of stride 8.",
    {
        "num_classes": integer("Number of classes.", 19),
        "backbone": closed(
            "The feature extractor.",
            {**BACKBONE, "variant": {**BACKBONE["variant"], "default": "m0"}},
        ),
        "head": closed(
            "The decode head.",
            {
                "channels": integer("Channels of every map inside.", 128),
                "dilations": _integers("One branch each; 1 is a 1x1 convolution.", [1, 2, 4, 4]),
                "repeats": _integers("Convolutions in a row, a branch each.", [1, 1, 1, 2]),
                "dropout": number("Dropout before the classifier, in training.", 0.1, most=1.0),
            },
        ),
        "auxiliary": closed(
            "Heads on the maps of stride 8 and 16, in training alone; they never ship.",
            {
                "channels": integer("Channels of their convolution.", 64),
                "weight": number("Weight of each of their losses; 0: no such heads.", 0.4),
                "dropout": number("Dropout before their classifiers.", 0.1, most=1.0),
            },
        ),
        "loss": closed(
            "Cross-entropy per pixel.",
            {"ignore_index": integer("The label that does not count.", 255, least=0)},
        ),
        "batch_norm": BATCH_NORM,
    },
) | {"examples": [{"num_classes": 3, "backbone": {"width": 0.25, "depth": 0.3}}]}


def _library(name: str, more: Schema) -> Schema:
    return closed(
        f"A classifier of {name}, by its name there.",
        {
            "name": {"type": "string", "description": f"Name that {name} knows the model by."},
            "num_classes": integer("Number of classes; default: that of the library."),
            "options": {
                "type": "object",
                "additionalProperties": True,
                "default": {},
                "description": "Further keywords, as the library takes them.",
            },
            **more,
        },
        required=("name",),
    )


TORCHVISION = _library(
    "torchvision",
    {
        "weights": {
            "type": ["string", "null"],
            "default": None,
            "description": "Name of published weights, such as DEFAULT; null: none.",
        }
    },
)
TIMM = _library(
    "timm",
    {
        "pretrained": {
            "type": "boolean",
            "default": False,
            "description": "Begin with published weights.",
        }
    },
)
