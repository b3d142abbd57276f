"""The time of a TFLite file in LiteRT on this CPU."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np

from qatspec.api import Artifact, measured_perf, open_session, time_in_turn
from qatspec_litert.march import open_interpreter, to_file

if TYPE_CHECKING:
    from qatspec.api import Program


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Time the file on one thread and one image, for perf.json, beside the same net in float32: an
    ONNX, which onnxruntime runs where it is installed."""
    ints = [x[:1] for x in inputs[0]]
    interpreter = open_interpreter(artifact)
    sources = interpreter.get_input_details()
    for port, source, x in zip(artifact.real_inputs, sources, ints, strict=True):
        interpreter.set_tensor(source["index"], to_file(port, x))
    runs = [interpreter.invoke]
    facts = {"LiteRT": version("ai-edge-litert"), "kernels": artifact.manifest["kernels"]}
    if float32 is not None and importlib.util.find_spec("onnxruntime") is not None:
        session = open_session(float32, 1)
        real = [port.dequantize(x) for port, x in zip(program.inputs, ints, strict=True)]
        names = [port.name for port in session.get_inputs()]
        runs.append(partial(session.run, None, dict(zip(names, real, strict=True))))
        facts["float32 ran in"] = f"onnxruntime {version('onnxruntime')}"
    ours, *others = time_in_turn(runs)
    beside = others[0] if others else None
    return {"perf": measured_perf(artifact, ours, beside, threads=1, batch=1, facts=facts)}
