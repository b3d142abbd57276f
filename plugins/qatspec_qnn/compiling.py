"""Sessions on Hexagon or its simulator, and a program that writes a context binary.

    python compiling.py MODEL.onnx CONTEXT.onnx SOC_MODEL

It runs in a process of its own and imports neither qatspec nor torch: the vendor's package counts
the graphs of a process in their names, so that only the first has the same bytes every time.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnxruntime
import onnxruntime_qnn

PROVIDER = "QNNExecutionProvider"


def open_session(model: bytes, soc_model: int, settings: Mapping[str, str]) -> Any:
    """A session for one chip. model: the bytes of a file, whose path would become part of names;
    settings: entries of the session's configuration."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    backend = {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), "soc_model": str(soc_model)}
    options.add_provider_for_devices([_device()], backend)
    for key, value in settings.items():
        options.add_session_config_entry(key, value)
    return onnxruntime.InferenceSession(model, options)


def _device() -> Any:
    """The device of the vendor's execution provider, which a process registers once."""
    devices = _devices()
    if not devices:
        path = onnxruntime_qnn.get_library_path()
        onnxruntime.register_execution_provider_library(PROVIDER, path)
        devices = _devices()
    if not devices:
        raise RuntimeError("onnxruntime finds no device for the vendor's execution provider")
    return devices[0]


def _devices() -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]


def main(model: str, context: str, soc_model: str) -> None:
    """Write the context binary of `model` to `context`, an ONNX file around it."""
    settings = {
        "ep.context_enable": "1",
        "ep.context_file_path": context,
        "ep.context_embed_mode": "1",
    }
    open_session(Path(model).read_bytes(), int(soc_model), settings)


if __name__ == "__main__":
    main(*sys.argv[1:])
