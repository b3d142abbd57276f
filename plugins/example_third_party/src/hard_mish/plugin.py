"""What this plugin registers. No torch here: qatspec loads this file in every command."""

from qatspec import api
from qatspec.api import hookimpl, lazy

qatspec_api = 2

WIDTH = {"type": "integer", "minimum": 1, "default": 8, "description": "Channels of each conv."}
PARAMS = {"type": "object", "additionalProperties": False, "properties": {"width": WIDTH}}


@hookimpl
def qatspec_models():
    summary, build = "classifier with hard_mish activations", lazy("hard_mish.net:Net")
    return [api.ModelDef(name="hard_mish_net", summary=summary, params=PARAMS, build=build)]


@hookimpl
def qatspec_datasets():
    return [
        api.DatasetDef(
            name="stripes",
            summary="horizontal and vertical stripes in noise",
            params=api.NO_PARAMS,
            open=lazy("hard_mish.stripes:Stripes"),
            fingerprint=lazy("hard_mish.stripes:fingerprint"),
            metric="accuracy",
        )
    ]


@hookimpl
def qatspec_quant_handlers():
    return [
        api.QuantHandler(
            name="hard_mish",
            summary="x * clamp(x + 2, 0, 2) / 2, a table on the chip",
            ops=("hard_mish",),
            annotate=lazy("hard_mish.op:annotate"),
            lower=lazy("hard_mish.op:lower"),
            to_onnx=lazy("hard_mish.op:to_onnx"),
            examples=lazy("hard_mish.op:examples"),
        )
    ]


@hookimpl
def qatspec_fuse_patterns():
    summary = "hard_mish with a bound behind it: one range, one rounding"
    chain = ("hard_mish", "relu|relu6")
    return [api.FusePattern(name="hard_mish_bound", summary=summary, pattern=chain)]


@hookimpl
def qatspec_observers():
    build = lazy("hard_mish.observer:FourSigma")
    return [api.ObserverDef(name="four_sigma", summary="four standard deviations", build=build)]
