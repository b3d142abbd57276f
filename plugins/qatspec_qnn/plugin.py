"""What this plugin registers: the march `qnn`."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from typing import Any

from qatspec.api import RUNTIME_INPUT, Arithmetic, Finding, March, hookimpl, lazy

OPTIONS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "soc_model": {
            "type": "integer",
            "minimum": 1,
            "default": 43,
            "description": "The chip, by the vendor's number: 43 is SM8550 (Snapdragon 8 Gen 2), "
            "57 SM8650 (8 Gen 3), 69 SM8750 (8 Elite), 60 SC8380XP (X Elite). The vendor's table "
            "of supported devices has the others.",
        },
        "batch": {
            "type": "integer",
            "minimum": 1,
            "default": 1,
            "description": "images a run; the graph has fixed sizes",
        },
        "compiled": {
            "type": "boolean",
            "default": True,
            "description": "whether the file holds the context binary. Without it, the file holds "
            "the Q/DQ ONNX and is compiled whenever it is loaded",
        },
        **RUNTIME_INPUT,
    },
}


@hookimpl
def qatspec_marches() -> Iterable[March]:
    return [
        March(
            name="qnn",
            summary="Qualcomm's Hexagon, by its own compiler; needs the extra qatspec[qnn]",
            version=1,
            chips=("hexagon", "htp", "snapdragon"),
            arithmetic=Arithmetic(fused_add=False),
            options=OPTIONS,
            trial_options={"compiled": False},
            supports=lazy("qatspec_qnn.ops:supports"),
            compile=lazy("qatspec_qnn.march:compile_model"),
            run=lazy("qatspec_qnn.march:run"),
            measure=lazy("qatspec_qnn.march:measure"),
            bit_exact=False,
            qdq="uint8",
        )
    ]


@hookimpl
def qatspec_check(spec: Any) -> Iterable[Finding]:
    """Warn where compile needs the vendor's package and this environment does not have it."""
    if spec.march != "qnn" or "compile" not in spec.stages:
        return ()
    if all(importlib.util.find_spec(name) for name in ("onnxruntime", "onnxruntime_qnn")):
        return ()
    message = "stage compile needs onnxruntime-qnn, which is not installed here"
    return (Finding(at="/march", message=message, help="pip install 'qatspec[qnn]'"),)
