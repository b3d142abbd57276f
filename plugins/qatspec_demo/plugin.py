"""What this plugin registers: the data set `digits_detection`."""

from __future__ import annotations

from collections.abc import Iterable

from qatspec_vision.params import LOADER, closed, integer, integer_range

from qatspec.api import DatasetDef, hookimpl, lazy

PARAMS = closed(
    "Pictures of real handwritten digits, drawn once and read as a COCO set.",
    {
        "split": {
            "enum": ["train", "val"],
            "description": "Which scans: no scan is in both.",
        },
        "images": integer("Number of pictures."),
        "picture": integer("Height and width of the drawn pictures in pixels.", 128, least=32),
        "digits": integer_range("Fewest and most digits a picture.", [4, 9]),
        "height": integer_range("Smallest and largest height of a digit in pixels.", [14, 56]),
        "seed": integer("Chooses what is drawn.", 0, least=0),
        **LOADER,
    },
    required=("split", "images"),
) | {"examples": [{"split": "val", "images": 4, "size": 64}]}


@hookimpl
def qatspec_datasets() -> Iterable[DatasetDef]:
    return (
        DatasetDef(
            name="digits_detection",
            summary="scikit-learn's handwritten digits on pictures, AP as by pycocotools",
            params=PARAMS,
            open=lazy("qatspec_demo.digits:open_digits"),
            fingerprint=lazy("qatspec_demo.identity:fingerprint"),
            classes=lazy("qatspec_demo.identity:class_names"),
            metric="AP",
            fitting=lazy("qatspec_vision.data.fitting:fitted"),
        ),
    )
