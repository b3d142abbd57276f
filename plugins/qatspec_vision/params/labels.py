"""The params of the data sets of other tools' label files: YOLO, VOC, masks and tables."""

from __future__ import annotations

from qatspec_vision.params.data import CLASSIFIED, FITTED, LOADER, PART, ROOT, class_names
from qatspec_vision.params.schema import Schema, by_content, closed


def _path(description: str, default: str | None = None) -> Schema:
    schema: Schema = {"type": "string", "description": description}
    return by_content(schema if default is None else {**schema, "default": default})


_SPLIT = _path("Name that takes the place of {split} in the other paths: train, val, ...")
_COLOUR: Schema = {
    "type": "array",
    "items": {"type": "integer", "minimum": 0, "maximum": 255},
    "minItems": 3,
    "maxItems": 3,
}

YOLO = closed(
    "A detection set with a label file for each picture: `class x y width height` on a line, the "
    "centre and size of a box from 0 to 1.",
    {
        "root": ROOT,
        "split": _SPLIT,
        "images": _path("The folder of the pictures, relative to root.", "images/{split}"),
        "labels": _path("The folder of the label files, relative to root.", "labels/{split}"),
        "list": by_content(
            {
                "type": ["string", "null"],
                "default": None,
                "description": "File with the paths of the split's pictures, one on each line, "
                "whatever folder they start from; null: every picture of the folder.",
            }
        ),
        "classes": class_names("", "data.yaml"),
        "part": PART,
        **LOADER,
    },
    required=("root", "split"),
) | {"examples": [{"root": ".", "split": "train", "size": 64}]}

VOC = closed(
    "A detection set with an XML file for each picture, as Pascal VOC has them.",
    {
        "root": ROOT,
        "split": _SPLIT,
        "images": _path("The folder of the pictures, relative to root.", "JPEGImages"),
        "annotations": _path("The folder of the XML files, relative to root.", "Annotations"),
        "list": by_content(
            {
                "type": ["string", "null"],
                "default": "ImageSets/Main/{split}.txt",
                "description": "File with the names of the split's pictures, one on each line; "
                "null: every picture of the folder.",
            }
        ),
        "classes": class_names("Left out: the names in all XML files of the folder, sorted."),
        "part": PART,
        **LOADER,
    },
    required=("root", "split"),
) | {"examples": [{"root": ".", "split": "train", "size": 64}]}

MASKS = closed(
    "A segmentation set: for each picture a mask with the number or the colour of each pixel's "
    "class.",
    {
        "root": ROOT,
        "split": _SPLIT,
        "images": _path("The folder of the pictures, relative to root.", "images/{split}"),
        "masks": _path("The folder of the masks, relative to root.", "masks/{split}"),
        "mask_name": _path("Name of a picture's mask; {stem} is the picture's.", "{stem}.png"),
        "classes": class_names(
            "The colours of a CSV file say that masks are coloured.", "classes.txt"
        ),
        "colours": {
            "type": ["array", "null"],
            "items": _COLOUR,
            "default": None,
            "description": "[red, green, blue] of each class in a mask; null: masks hold numbers, "
            "or the colours that the file of class names says.",
        },
        "ignore": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0, "maximum": 65535},
            "default": [255],
            "description": "Numbers of pixels that do not count.",
        },
        "ignore_colours": {
            "type": "array",
            "items": _COLOUR,
            "default": [],
            "description": "Colours of pixels that do not count.",
        },
        "part": PART,
        **FITTED,
    },
    required=("root", "split"),
) | {"examples": [{"root": ".", "split": "train", "size": 64}]}

TABLE = closed(
    "A classification set: a CSV file with a picture and its class on each line.",
    {
        "root": ROOT,
        "table": _path("The CSV file, relative to root.", "labels.csv"),
        "images": _path("The folder that names of pictures are relative to.", ""),
        "file_column": _path("The column with the name of the picture.", "file"),
        "label_column": _path("The column with the class.", "label"),
        "label_columns": {
            "type": "array",
            "items": {"type": "string"},
            "minItems": 2,
            "uniqueItems": True,
            "description": "In place of `label_column`: a column for each class, of which one has "
            "1 (or true) on each line, and the others 0.",
        },
        "suffix": _path("What is added to the name of each picture, such as .jpg.", ""),
        "split": _path("Take the lines that have this split; default: all lines."),
        "split_column": _path("The column with the split.", "split"),
        "classes": class_names("Left out: the labels of the whole table, sorted."),
        "part": PART,
        **CLASSIFIED,
    },
    required=("root",),
) | {"examples": [{"root": ".", "size": 64}]}
