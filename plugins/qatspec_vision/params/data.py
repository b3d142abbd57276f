"""The params of the data sets."""

from __future__ import annotations

from typing import Any

from qatspec_vision.params.schema import Schema, by_content, closed, number, number_range

_COLOURS = ["rgb", "bgr", "yuv444", "gray"]


def _from_input(key: str, schema: Schema) -> Schema:
    """A param that has the value of a key of `model.input` where it is not written."""
    said = f"{schema['description']} Default: that of `model.input`."
    return {**schema, "description": said, "x-qatspec-input": key}


def _channels(description: str, **bounds: Any) -> Schema:
    """One number, or one for each channel."""
    return {
        "type": ["number", "array"],
        "items": {"type": "number", **bounds},
        "minItems": 1,
        "maxItems": 3,
        **bounds,
        "default": 128.0,
        "description": description,
    }


#: What every set of pictures takes beside the place of its files.
PICTURE: Schema = {
    "size": _from_input(
        "size",
        {
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
    ),
    "format": _from_input(
        "format",
        {
            "enum": _COLOURS,
            "default": "rgb",
            "description": "Channels of the model's input and their order; yuv444 is full-range "
            "BT.601.",
        },
    ),
    "mean": _from_input(
        "mean",
        _channels(
            "image = (pixel - mean) / std, one number or one for each channel; padding is the mean."
        ),
    ),
    "std": _from_input(
        "std",
        _channels(
            "image = (pixel - mean) / std, one number or one for each channel.", exclusiveMinimum=0
        ),
    ),
    "resize": _from_input(
        "resize",
        {
            "enum": ["letterbox", "stretch"],
            "description": "How a whole picture is fitted into the input. letterbox: it keeps its "
            "ratio, lies at the top left, and the rest is padding; stretch: it fills the input. "
            "Without either: letterbox, and a centre crop for classification.",
        },
    ),
    "limit": {
        "type": "integer",
        "minimum": 1,
        "description": "Number of pictures to use, from the first on.",
    },
}

_FLIP = number("Probability of a left-right flip.", 0.0, most=1.0)
_HSV: Schema = {
    "type": "array",
    "items": {"type": "number", "minimum": 0, "maximum": 1},
    "minItems": 3,
    "maxItems": 3,
    "default": [0.0, 0.0, 0.0],
    "description": "Largest change of hue (of the circle), saturation and value.",
}

#: Random changes of pictures that are fitted into the input: detection and segmentation.
_FITTED: Schema = {
    "flip": _FLIP,
    "scale": number_range(
        "Range of the resize factor relative to fitting the input; larger pictures are cropped.",
        [1.0, 1.0],
    ),
    "hsv": _HSV,
}
_MIXED: Schema = {
    "mosaic": number(
        "Probability that three other pictures share the input with this one, each scaled as "
        "`scale` says relative to fitting half of it.",
        0.0,
        most=1.0,
    ),
    "mixup": number(
        "Probability that another picture is laid over this one, after mosaic.", 0.0, most=1.0
    ),
    "mixed_epochs": {
        "type": ["integer", "null"],
        "minimum": 0,
        "default": None,
        "description": "Epoch of a stage from which mosaic and mixup are off; null: never.",
    },
}


_TORCHVISION: Schema = {
    "type": "array",
    "items": {
        "type": ["string", "object"],
        "minProperties": 1,
        "maxProperties": 1,
        # torchvision knows its params; they are checked where the set is opened
        "additionalProperties": {"type": "object", "additionalProperties": True},
    },
    "description": "Transforms of torchvision.transforms.v2, where that is installed, applied in "
    "their order to pictures of the input's size: each a name, or a mapping from the name to its "
    "params.",
}


def _augment(properties: Schema) -> Schema:
    changes = "Random changes of training pictures; left out, nothing is changed."
    return closed(changes, {**properties, "torchvision": _TORCHVISION})


#: What every detection set takes.
LOADER: Schema = {**PICTURE, "augment": _augment({**_FITTED, **_MIXED})}
#: What every segmentation set takes.
FITTED: Schema = {**PICTURE, "augment": _augment(_FITTED)}

ROOT = by_content({"type": "string", "description": "The set's folder, relative to the spec."})
_MADE_UP = by_content(
    {
        "type": "integer",
        "minimum": 1,
        "description": "Number of pictures of plain shapes, of three classes, that are drawn in "
        "this layout and used instead of root's, to try a spec without its data. Metrics are "
        "meaningless.",
    }
)

#: Of a set without splits of its own.
PART: Schema = by_content(
    {
        "enum": ["train", "val"],
        "description": "Where the set has no split for validation: val takes about a fifth of the "
        "pictures, chosen by their names, and train the others.",
    }
)


def class_names(description: str, default: str | None = None) -> Schema:
    schema: Schema = {
        "type": ["string", "array"],
        "items": {"type": "string"},
        "minItems": 1,
        "uniqueItems": True,
        "description": "Class names in label order: a list, or a file relative to root (a name on "
        f"each line, YAML with `names`, or CSV with name, r, g, b). {description}",
    }
    return by_content(schema if default is None else {**schema, "default": default})


COCO = closed(
    "A detection set in COCO's standard layout.",
    {
        "root": ROOT,
        "made_up": _MADE_UP,
        "split": by_content(
            {
                "type": "string",
                "description": "Name in the layout: train2017, val2017, ...",
            }
        ),
        "annotations": by_content(
            {
                "type": "string",
                "default": "annotations/instances_{split}.json",
                "description": "The annotation file, relative to root.",
            }
        ),
        "images": by_content(
            {
                "type": "string",
                "default": "{split}",
                "description": "The folder of the pictures, relative to root.",
            }
        ),
        "part": PART,
        **LOADER,
    },
    required=("root", "split"),
) | {"examples": [{"root": ".", "split": "val", "size": 64, "made_up": 2}]}

CITYSCAPES = closed(
    "A segmentation set in Cityscapes' standard layout: leftImg8bit and gtFine.",
    {
        "root": ROOT,
        "made_up": _MADE_UP,
        "split": by_content({"type": "string", "description": "Folder in both: train, val, ..."}),
        "labels": {
            "enum": ["labelIds", "labelTrainIds"],
            "default": "labelIds",
            "description": "Which label files are read; labelIds are those of the download.",
        },
        **FITTED,
    },
    required=("root", "split"),
) | {"examples": [{"root": ".", "split": "val", "size": 64, "made_up": 2}]}

#: What every classification set takes.
CLASSIFIED: Schema = {
    "crop": number(
        "Side of the centre crop, of the largest one that the picture holds; with `resize`, the "
        "whole picture is taken.",
        0.875,
        most=1.0,
    ),
    **PICTURE,
    "augment": _augment(
        {
            "flip": _FLIP,
            "area": number_range(
                "Range of a random crop's share of the picture; [1, 1]: the centre crop.",
                [1.0, 1.0],
            ),
            "hsv": _HSV,
        },
    ),
}

IMAGEFOLDER = closed(
    "A classification set: one folder a class, or a table of pictures and classes.",
    {
        "root": ROOT,
        "made_up": _MADE_UP,
        "split": by_content(
            {
                "type": "string",
                "description": "Folder below root that holds a folder a class; default: root "
                "itself.",
            }
        ),
        "index": by_content(
            {
                "type": "string",
                "description": "CSV file with columns file (relative to root), class_index and, "
                "if any, name; relative to root. Takes the place of the folders.",
            }
        ),
        "classes": class_names(
            "Left out: the folders that hold pictures, sorted; a split without pictures of a class "
            "needs them."
        ),
        "part": PART,
        **CLASSIFIED,
    },
    required=("root",),
) | {"examples": [{"root": ".", "size": 64, "made_up": 3}]}
