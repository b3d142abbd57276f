"""What this plugin registers: the march `onnxruntime`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from qatspec.api import (
    RUNTIME_INPUT,
    Arithmetic,
    Finding,
    March,
    QConfig,
    QConfigDef,
    QSpec,
    hookimpl,
    lazy,
)

OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "opt": {
            "enum": ["fast", "exact"],
            "default": "fast",
            "description": (
                "exact: the Program's integers, by onnxruntime's exact ops, many times slower "
                "than float32; a CPU whose 8-bit kernels saturate is refused by a self-test. fast: "
                "onnxruntime's fast uint8 kernels, with no promise about the last bit"
            ),
        },
        "batch": {
            "type": ["integer", "null"],
            "minimum": 1,
            "default": None,
            "description": "Images a run of the ONNX file; null: any number. Runtimes that compile "
            "a graph for one size want a number.",
        },
        **RUNTIME_INPUT,
    },
}

#: None of onnxruntime's integer kernels adds into an accumulator: with a scale behind each
#: convolution, the QAT ONNX's become QLinearConv and its additions QLinearAdd.
ARITHMETIC = Arithmetic(fused_add=False)


@hookimpl
def qatspec_marches() -> Iterable[March]:
    return [
        March(
            name="onnxruntime",
            summary="any CPU, by onnxruntime; needs the extra qatspec[onnxruntime]",
            version=1,
            chips=("cpu", "ort"),
            arithmetic=ARITHMETIC,
            options=OPTIONS,
            supports=lazy("qatspec_onnxruntime.march:supports"),
            compile=lazy("qatspec_onnxruntime.march:compile_onnx"),
            run=lazy("qatspec_onnxruntime.march:run"),
            measure=lazy("qatspec_onnxruntime.measure:measure"),
            bit_exact=False,
            qdq="uint8",
        )
    ]


@hookimpl
def qatspec_qconfigs() -> Iterable[QConfigDef]:
    return [
        QConfigDef(
            name="onnxruntime_calibration",
            summary="observe activations by percentile 99.99; 0 to 255 behind a relu",
            config=QConfig(
                activation=QSpec(dtype="quint8", observer="percentile", fake_quant="fixed")
            ),
        ),
        QConfigDef(
            name="onnxruntime_calibrated",
            summary="qat after a calibration: activation scales fixed, 0 to 255 behind a relu",
            config=QConfig(activation=QSpec(dtype="quint8", fake_quant="fixed")),
            needs_calibration=True,
        ),
        QConfigDef(
            name="onnxruntime_qat",
            summary="qat without a calibration: activation scales move, 0 to 255 behind a relu",
            config=QConfig(activation=QSpec(dtype="quint8")),
        ),
    ]


@hookimpl
def qatspec_check(spec: Any) -> Iterable[Finding]:
    """Warn where compile needs onnxruntime and this environment does not have it."""
    if spec.march != "onnxruntime" or "compile" not in spec.stages:
        return ()
    if importlib.util.find_spec("onnxruntime") is not None:
        return ()
    message = "stage compile needs onnxruntime, which is not installed here"
    return (Finding(at="/march", message=message, help="pip install 'qatspec[onnxruntime]'"),)
