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
            bit_exact=False,
            qdq="uint8",
        )
    ]


@hookimpl
def qatspec_qconfigs() -> Iterable[QConfigDef]:
    return [
        QConfigDef(
            name="onnxruntime_qat",
            summary="qat without a calibration: 0 to 255 behind a relu, which needs no node then",
            config=QConfig(activation=QSpec(dtype="quint8")),
        )
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
