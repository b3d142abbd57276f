"""What a compiled file is fed: `rt_input_type` and `rt_input_layout` of `stages.compile`.

The keys are those of the community tutorial's configs; the types, with `nv12` as cameras give it,
those of the vendor's toolchain (`input_type_rt` against `input_type_train`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS806
from qatspec.diag.words import quote_list, suggest
from qatspec.schema import with_defaults
from qatspec.source.pointer import join
from qatspec.spec.inputs import CHANNELS
from qatspec.spec.model import GivenInput, InputSpec
from qatspec.types import RUNTIME_INPUT

_KEYS = ("rt_input_type", "rt_input_layout")
#: `format` of a picture -> the frames that it can be fed from by integer arithmetic.
FEEDS: Mapping[str, tuple[str, ...]] = {
    "rgb": ("rgb", "bgr", "yuv444", "nv12"),
    "bgr": ("rgb", "bgr", "yuv444", "nv12"),
    "yuv444": ("yuv444", "nv12"),
    "gray": ("gray",),
}


class Feed(NamedTuple):
    """What one input of a compiled file is fed, as RUNTIME_INPUT says."""

    kind: str
    layout: str

    @property
    def is_own(self) -> bool:
        """Whether it is the Program's own integers, in their order."""
        return self == _own()


def _own() -> Feed:
    return Feed(*(RUNTIME_INPUT[key]["default"] for key in _KEYS))


def feeds(options: Mapping[str, Any], inputs: Mapping[str, GivenInput]) -> dict[str, Feed]:
    """What each of the model's inputs is fed, by the options of a compile stage.

    inputs: by name, "" where the only one has none. An option that is one text says it of the
    pictures, or where there is but one input of that."""
    filled = with_defaults({"properties": RUNTIME_INPUT}, options)
    pictures = [name for name, given in inputs.items() if isinstance(given, InputSpec)]
    of_all = list(inputs) if len(inputs) == 1 else pictures
    asked_of = {}
    for name in inputs:
        asked = []
        for key, standard in zip(_KEYS, _own(), strict=True):
            value = filled[key]
            named = value if isinstance(value, Mapping) else dict.fromkeys(of_all, value)
            asked.append(named.get(name, standard))
        asked_of[name] = Feed(*asked)
    return asked_of


def check_runtime_input(
    options: Mapping[str, Any], inputs: Mapping[str, GivenInput], at: str = ""
) -> list[Diagnostic]:
    """Why the model, trained on `inputs`, cannot be fed what the options ask for: QS806.

    at: pointer of the options."""
    if unknown := _unknown_names(options, inputs, at):
        return unknown
    diagnostics = []
    for name, feed in feeds(options, inputs).items():
        given = inputs[name]
        if isinstance(given, InputSpec):
            wrong = _check_picture(feed, name, given, options, at)
            diagnostics += [wrong] if wrong else []
        elif not feed.is_own:
            key = _KEYS[0] if feed.kind != _own().kind else _KEYS[1]
            message = f"`{name}` is not a picture, and cannot be fed {feed[_KEYS.index(key)]}"
            diagnostics.append(_cannot(message, f"delete `{name}` there", options, key, name, at))
    return diagnostics


def _unknown_names(
    options: Mapping[str, Any], inputs: Mapping[str, GivenInput], at: str
) -> list[Diagnostic]:
    known = [name for name in inputs if name]
    diagnostics = []
    for key in _KEYS:
        value = options.get(key)
        for name, one in value.items() if isinstance(value, Mapping) else ():
            if name not in inputs:
                advice = suggest(name, known) if known else f"write one value: `{key}: {one}`"
                message = f"the model has no input `{name}`"
                diagnostics.append(_cannot(message, advice, options, key, name, at))
    return diagnostics


def _check_picture(
    feed: Feed, name: str, image: InputSpec, options: Mapping[str, Any], at: str
) -> Diagnostic | None:
    kind, layout = feed
    where = f"model.inputs.{name}" if name else "model.input"
    if kind == "featuremap":
        return None
    key, allowed = "rt_input_type", (*FEEDS[image.format], "featuremap")
    height, width = image.size
    if kind not in allowed:
        message = f"a model that is trained on {image.format} cannot be fed {kind}"
        advice = f"choose one of {quote_list(allowed)}"
        wanted = [name for name, kinds in FEEDS.items() if kind in kinds]
        advice += f", or train on {' or '.join(wanted)} (`{where}.format`)"
    elif image.channels != CHANNELS[image.format]:
        message = f"{kind} frames do not have the {image.channels} channels of `{where}`"
        advice = "delete `rt_input_type`: the compiled file is then fed the model's own integers"
    elif kind == "nv12" and (height % 2 or width % 2):
        message = f"nv12 halves both sides for its chroma, and {height} x {width} has an odd one"
        advice = f"choose an even `{where}.size`, or `rt_input_type: yuv444`"
    elif kind == "nv12" and layout == "NHWC":
        key = "rt_input_layout"
        message = "nv12 has a layout of its own: a plane of luma, then one of chroma pairs"
        advice = "delete `rt_input_layout`"
    else:
        return None
    return _cannot(message, advice, options, key, name, at)


def _cannot(
    message: str, advice: str | None, options: Mapping[str, Any], key: str, name: str, at: str
) -> Diagnostic:
    """QS806 at the option, or at the entry of it that is about the input `name`."""
    entry = (name,) if isinstance(options.get(key), Mapping) else ()
    if name and not entry:
        advice = f"say it of single inputs, `{key}: {{NAME: {options[key]}}}`, or {advice}"
    return QS806.diagnostic(message, help=advice, at=join(at, key, *entry) if at else None)
