"""What this plugin registers: the march `openvino`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from qatspec.api import RUNTIME_INPUT, Arithmetic, Finding, March, hookimpl, lazy

OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "device": {
            "enum": ["CPU", "GPU", "NPU"],
            "default": "CPU",
            "description": "the device of this machine that the model is compiled for",
        },
        "batch": {
            "type": ["integer", "null"],
            "minimum": 1,
            "default": None,
            "description": "Images a run; null: any number. A number can be faster, and an NPU "
            "takes nothing else.",
        },
        "precision": {
            "enum": ["f32", "f16", "bf16"],
            "default": "f32",
            "description": "how numbers are computed that are not integers of 8 bits, such as sums "
            "that no op rounds. f16 and bf16 are for devices that are fast in them, and move "
            "outputs by many of their integers",
        },
        "compiled": {
            "type": "boolean",
            "default": True,
            "description": "whether the file holds the compiled model, which then loads without "
            "compiling on the same device with the same version of OpenVINO",
        },
        **RUNTIME_INPUT,
    },
}

#: OpenVINO adds a residual to a convolution's sums and rounds once, whatever rounding the graph has
#: in between.
ARITHMETIC = Arithmetic(fused_add=True)


@hookimpl
def qatspec_marches() -> Iterable[March]:
    return [
        March(
            name="openvino",
            summary="Intel CPUs, GPUs and NPUs, by OpenVINO; needs the extra qatspec[openvino]",
            version=1,
            chips=("intel", "ov"),
            arithmetic=ARITHMETIC,
            options=OPTIONS,
            trial_options={"compiled": False},
            supports=lazy("qatspec_openvino.march:supports"),
            compile=lazy("qatspec_openvino.march:compile_model"),
            run=lazy("qatspec_openvino.march:run"),
            measure=lazy("qatspec_openvino.measure:measure"),
            bit_exact=False,
            qdq="uint8",
        )
    ]


@hookimpl
def qatspec_check(spec: Any) -> Iterable[Finding]:
    """Warn where compile needs OpenVINO and this environment does not have it."""
    if spec.march != "openvino" or "compile" not in spec.stages:
        return ()
    if importlib.util.find_spec("openvino") is not None:
        return ()
    message = "stage compile needs OpenVINO, which is not installed here"
    return (Finding(at="/march", message=message, help="pip install 'qatspec[openvino]'"),)
