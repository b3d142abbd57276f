"""Compile an ONNX file for a device and write the compiled model.

    python compiling.py MODEL.onnx COMPILED DEVICE PRECISION

It runs in a process of its own and imports neither qatspec nor torch: names that OpenVINO gives to
the nodes of a graph count on within a process, so that only the first model of a process has the
same bytes every time.
"""

from __future__ import annotations

import sys
from pathlib import Path

import openvino


def main(model: str, compiled: str, device: str, precision: str) -> None:
    """Write the compiled model of `model` to `compiled`."""
    core = openvino.Core()
    made = core.compile_model(model, device, {"INFERENCE_PRECISION_HINT": precision})
    Path(compiled).write_bytes(made.export_model().getvalue())


if __name__ == "__main__":
    main(*sys.argv[1:])
