"""The configuration of the vendor's mapper (`hb_mapper makertbin`) for a float network.

Keys and values: the vendor's public descriptions of its post-training flow. qatspec does not have
the tool, so nothing here has been run in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: march of qatspec -> the mapper's name of it, where it differs.
_MARCHES = {"bayes_e": "bayes-e"}
_MODES = {"ddr": "bandwidth"}
_LEVELS = ("O0", "O1", "O2", "O3")


def mapper_configuration(facts: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the four sections of the mapper's file. facts: see `March.handoffs`."""
    name, opt = facts["name"], facts["opt"]
    return {
        "model_parameters": {
            "onnx_model": facts["onnx"],
            "march": _MARCHES.get(facts["march"], facts["march"]),
            "output_model_file_prefix": name,
            "working_dir": f"{name}-mapper",
        },
        "input_parameters": {
            "input_name": facts["input"],
            "input_type_rt": facts["fed"],
            "input_layout_rt": facts["layout"],
            "input_type_train": facts["format"],
            "input_layout_train": "NCHW",
            "norm_type": "data_mean_and_scale",
            "mean_value": _numbers(facts["mean"]),
            "scale_value": _numbers([1 / std for std in facts["std"]]),
        },
        "calibration_parameters": {
            "cal_data_dir": f"{name}-calibration",
            "calibration_type": "max",
            "max_percentile": 0.9999,
        },
        "compiler_parameters": {
            "compile_mode": _MODES.get(opt, "latency"),
            "debug": True,
            "optimize_level": opt if opt in _LEVELS else "O3",
        },
    }


def _numbers(values: list[float]) -> str:
    """Numbers as the mapper takes them, one for all channels where they are equal."""
    alike = len(set(values)) == 1
    return " ".join(f"{value:.9g}" for value in (values[:1] if alike else values))
