"""`model.input` and `model.inputs`: what the model takes, for data sets, checks and files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qatspec.diag import Diagnostic, Note
from qatspec.diag.codes import QS206, QS618
from qatspec.registry import Registry, registry
from qatspec.source.pointer import join
from qatspec.spec.image import (
    check_image,
    clipped_by_scale,
    of_shares,
    picture_record,
)
from qatspec.spec.model import GivenInput, InputSpec, Spec, TensorSpec
from qatspec.types import JSONSchema

#: Schema keyword of a data set's param: what of the model's inputs the param has where it is not
#: written. A key of the one picture ("mean"), or with `model.inputs` all of them ("inputs"), one
#: ("inputs/rgb") or a key of one ("inputs/rgb/mean").
FROM_INPUT = "x-qatspec-input"
#: The first part of the latter.
INPUTS = "inputs"
#: Keys that data sets do not get: they say how an input is quantized and tried.
_NOT_OF_DATA = ("scale", "range")
#: Channels of a pixel of a picture, by `format`.
CHANNELS: Mapping[str, int] = {"rgb": 3, "bgr": 3, "yuv444": 3, "gray": 1}


def read_inputs(model: Mapping[str, Any]) -> dict[str, GivenInput]:
    """The inputs that the section `model` states, defaults filled in, by name.

    Raises DiagnosticError QS206 for both of `input` and `inputs`."""
    if INPUTS not in model:
        return {"": _record(model["input"], "/model/input")}
    if "input" in model:
        raise QS206.error(
            "`model` has `input` and `inputs`",
            help="delete `input`, and write its keys below the name of forward's argument in "
            "`inputs`",
            at="/model/input",
            key=True,
            notes=(Note("the other one", at="/model/inputs"),),
        )
    at = "/model/inputs"
    return {name: _record(raw, join(at, name)) for name, raw in model[INPUTS].items()}


def _record(raw: Mapping[str, Any], at: str) -> GivenInput:
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()}
    return TensorSpec(**values, at=at) if "shape" in raw else InputSpec(**values, at=at)


def given_to_data(model: Mapping[str, Any]) -> dict[str, Any]:
    """What `FROM_INPUT` may name -> its value. model: the section, defaults filled in."""
    if INPUTS not in model:
        return dict(model["input"])
    every = {
        name: {k: v for k, v in raw.items() if k not in _NOT_OF_DATA}
        for name, raw in model[INPUTS].items()
    }
    pictures = [raw for raw in every.values() if "shape" not in raw]
    pointers: dict[str, Any] = {INPUTS: every}
    if len(pictures) == 1:
        pointers.update(pictures[0])
    for name, raw in every.items():
        pointers[f"{INPUTS}/{name}"] = raw
        pointers.update((f"{INPUTS}/{name}/{key}", value) for key, value in raw.items())
    return pointers


def taken_from_input(schema: JSONSchema, given: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a data set that the model's inputs give.

    schema: of the data set's params. given: what `given_to_data` found."""
    properties = schema.get("properties", {})
    keys = {name: part.get(FROM_INPUT) for name, part in properties.items()}
    return {name: given[key] for name, key in keys.items() if key in given}


def check_inputs(spec: Spec) -> list[Diagnostic]:
    """Errors of the inputs: QS616 for mean and std, QS618 for what contradicts itself."""
    diagnostics: list[Diagnostic] = []
    for name, given in spec.inputs.items():
        if isinstance(given, TensorSpec):
            diagnostics += _check_tensor(name, given)
            continue
        diagnostics += check_image(given)
        if name and given.channels != CHANNELS[given.format]:
            diagnostics.append(_other_channels(name, given))
    return diagnostics


def warn_of_inputs(spec: Spec) -> list[Diagnostic]:
    """Warnings of the pictures among the inputs: QS616 and QS617."""
    pictures = [given for given in spec.inputs.values() if isinstance(given, InputSpec)]
    return [d for image in pictures for d in of_shares(image) or clipped_by_scale(spec, image)]


def preprocessing(spec: Spec, names: Registry | None = None) -> dict[str, Any] | None:
    """What files record of the inputs, as JSON: of `model.input` how a picture becomes the input
    (None where it has other channels than pictures of its format have, as features do), of
    `model.inputs` the form of each, below `inputs`.

    How a picture is fitted is what the data set of data.val says, where it says it: infer reads
    pictures with it. names: where its record is looked up; None: the installed plugins. Raises
    PluginFault where its `fitting` raises."""
    if (image := spec.inputs.get("")) is not None:
        assert isinstance(image, InputSpec)
        if image.channels != CHANNELS[image.format]:
            return None
        return {**picture_record(image), **picture_fitting(spec, names)}
    return {INPUTS: {name: _form(given) for name, given in spec.inputs.items()}}


def picture_fitting(spec: Spec, names: Registry | None = None) -> Mapping[str, Any]:
    """How data.val fits a picture of another size into `model.input`, as keys of
    qatspec.picture.ModelInput; empty where it does not say.

    names: where its record is looked up; None: the installed plugins. Raises PluginFault."""
    names, dataset = names or registry(), spec.data["val"].dataset
    definition = names.dataset(dataset.type)
    if definition.fitting is None or "" not in spec.inputs:
        return {}
    with names.attribute_errors(definition, f"fitting of data set `{dataset.type}`"):
        return {k: v for k, v in definition.fitting(dataset.params).items() if v is not None}


def _form(given: GivenInput) -> dict[str, Any]:
    if isinstance(given, InputSpec):
        return picture_record(given)
    return {"shape": list(given.shape), "dtype": given.dtype}


def _check_tensor(name: str, given: TensorSpec) -> list[Diagnostic]:
    diagnostics = []
    if given.range is not None and given.range[0] > given.range[1]:
        least, most = given.range
        diagnostics.append(
            QS618.diagnostic(
                f"`range` of `{name}` begins with {least:g} and ends with {most:g}",
                help=f"write `range: [{most:g}, {least:g}]`: the least number first",
                at=join(given.at, "range"),
            )
        )
    if given.is_integer and given.scale is not None:
        diagnostics.append(
            QS618.diagnostic(
                f"`{name}` has integers, which are not quantized, and a `scale`",
                help="delete `scale`: what is computed from them is quantized, and its scale "
                "observed",
                at=join(given.at, "scale"),
            )
        )
    return diagnostics


def _other_channels(name: str, given: InputSpec) -> Diagnostic:
    wanted = CHANNELS[given.format]
    height, width = given.size
    return QS618.diagnostic(
        f"picture `{name}` has {wanted} channel{'s' * (wanted > 1)} as {given.format}, and "
        f"`channels` says {given.channels}",
        help=f"write `channels: {wanted}`; what is not a picture has "
        f"`shape: [{given.channels}, {height}, {width}]` in place of `size`, `channels` and "
        "`format`",
        at=given.at,
        key=True,
    )
