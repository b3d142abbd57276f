"""What this plugin registers: the marches `litert` and `litert_reference`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from qatspec.api import RUNTIME_INPUT, Arithmetic, Finding, March, hookimpl, lazy

OPTIONS = {"type": "object", "additionalProperties": False, "properties": {**RUNTIME_INPUT}}

#: XNNPACK: products in float32. Nothing adds into an accumulator.
XNNPACK = Arithmetic(multiplier_bits=24, rounding="half_even", form="float32", fused_add=False)
#: The reference kernels, TFLite Micro and Ethos-U: 31-bit multipliers and two roundings.
REFERENCE = Arithmetic(multiplier_bits=31, rounding="half_up", form="double_high", fused_add=False)

_MARCHES = {
    "litert": (XNNPACK, "Arm and x86 CPUs, by LiteRT and XNNPACK"),
    "litert_reference": (
        REFERENCE,
        "the integers of TFLite's reference kernels (microcontrollers)",
    ),
}


@hookimpl
def qatspec_marches() -> Iterable[March]:
    return [
        March(
            name=name,
            summary=f"{summary}; needs the extra qatspec[litert]",
            version=1,
            chips=("tflite",) if name == "litert" else ("tflm",),
            arithmetic=arithmetic,
            options=OPTIONS,
            supports=lazy("qatspec_litert.march:supports", name, arithmetic.form),
            compile=lazy("qatspec_litert.march:compile_tflite", name, arithmetic.form),
            run=lazy("qatspec_litert.march:run"),
        )
        for name, (arithmetic, summary) in _MARCHES.items()
    ]


@hookimpl
def qatspec_check(spec: Any) -> Iterable[Finding]:
    """Warn where compile needs ai-edge-litert and this environment does not have it."""
    if spec.march not in _MARCHES or "compile" not in spec.stages:
        return ()
    if importlib.util.find_spec("ai_edge_litert") is not None:
        return ()
    message = "stage compile needs ai-edge-litert, which is not installed here"
    return (Finding(at="/march", message=message, help="pip install 'qatspec[litert]'"),)
