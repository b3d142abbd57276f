"""What a compiled file is fed: `rt_input_type` and `rt_input_layout` of `stages.compile`.

The keys are those of the tutorial's configs; the types, with `nv12` as cameras give it, those of
the vendor's toolchain (`input_type_rt` against `input_type_train`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS806
from qatspec.diag.words import quote_list
from qatspec.schema import with_defaults
from qatspec.spec.model import InputSpec
from qatspec.types import RUNTIME_INPUT

#: `model.input.format` -> the frames that it can be fed from by integer arithmetic.
FEEDS: Mapping[str, tuple[str, ...]] = {
    "rgb": ("rgb", "bgr", "yuv444", "nv12"),
    "bgr": ("rgb", "bgr", "yuv444", "nv12"),
    "yuv444": ("yuv444", "nv12"),
    "gray": ("gray",),
}
#: Channels of a pixel in each of those formats.
CHANNELS: Mapping[str, int] = {"rgb": 3, "bgr": 3, "yuv444": 3, "gray": 1}


def runtime_input(options: Mapping[str, Any]) -> tuple[str, str]:
    """(type, layout) that the options of a compile stage ask for."""
    filled = with_defaults({"properties": RUNTIME_INPUT}, options)
    return filled["rt_input_type"], filled["rt_input_layout"]


def check_runtime_input(
    options: Mapping[str, Any], image: InputSpec, at: str = ""
) -> Diagnostic | None:
    """Why the model, trained on `image`, cannot be fed what the options ask for: QS806.

    at: pointer of the options."""
    kind, layout = runtime_input(options)
    if kind == "featuremap":
        return None
    key, feeds = "rt_input_type", (*FEEDS[image.format], "featuremap")
    height, width = image.size
    if kind not in feeds:
        message = f"a model that is trained on {image.format} cannot be fed {kind}"
        advice = f"choose one of {quote_list(feeds)}"
        wanted = [name for name, kinds in FEEDS.items() if kind in kinds]
        advice += f", or train on {' or '.join(wanted)} (`model.input.format`)"
    elif image.channels != CHANNELS[image.format]:
        message = f"{kind} frames do not have the {image.channels} channels of `model.input`"
        advice = "delete `rt_input_type`: the compiled file is then fed the model's own integers"
    elif kind == "nv12" and (height % 2 or width % 2):
        message = f"nv12 halves both sides for its chroma, and {height} x {width} has an odd one"
        advice = "choose an even `model.input.size`, or `rt_input_type: yuv444`"
    elif kind == "nv12" and layout == "NHWC":
        key = "rt_input_layout"
        message = "nv12 has a layout of its own: a plane of luma, then one of chroma pairs"
        advice = "delete `rt_input_layout`"
    else:
        return None
    return QS806.diagnostic(message, help=advice, at=f"{at}/{key}" if at else None)
