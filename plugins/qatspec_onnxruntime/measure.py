"""What is measured of a compiled file: its time on this CPU, and how far it is from the Program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnxruntime

from qatspec.api import (
    Artifact,
    Program,
    layer_exactness,
    measured_exactness,
    measured_perf,
    open_session,
    scratch_folder,
    time_in_turn,
)
from qatspec_onnxruntime.march import run


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Time the file on one thread beside `float32`, and compare each of its layers.

    inputs: integers of the Program's ports, one list an image. Returns "perf" for perf.json and, of
    a file that is not exact, "manifest": what to add to its manifest.
    """
    measured = {"perf": _perf(program, artifact, inputs[0], float32)}
    if not artifact.manifest["bit_exact"]:
        layers = layer_exactness(program, inputs)
        run_artifact = partial(_run, artifact)
        measured["manifest"] = measured_exactness(program, inputs, run_artifact, layers)
    return measured


def _run(artifact: Artifact, *ints: np.ndarray) -> list[np.ndarray]:
    return run(artifact, ints)


def _perf(
    program: Program, artifact: Artifact, ints: Sequence[np.ndarray], float32: bytes | None
) -> dict[str, Any]:
    batch = artifact.manifest["options"]["batch"] or 1
    fed = [np.concatenate([x[:1]] * batch) for x in ints]
    files = [(artifact.sections["model.onnx"], fed)]
    if float32 is not None:
        real = [port.dequantize(x) for port, x in zip(program.inputs, fed, strict=True)]
        files.append((float32, real))
    runs = []
    for data, arrays in files:
        session = open_session(data, 1)
        names = [port.name for port in session.get_inputs()]
        runs.append(partial(session.run, None, dict(zip(names, arrays, strict=True))))
    ours, *others = time_in_turn(runs)
    return measured_perf(
        artifact,
        ours,
        others[0] if others else None,
        threads=1,
        batch=batch,
        facts={
            "onnxruntime": onnxruntime.__version__,
            "optimized graph": _kinds(artifact.sections["model.onnx"]),
        },
    )


def _kinds(data: bytes) -> dict[str, int]:
    """Node types of the graph that onnxruntime makes of the file, the most frequent first."""
    with scratch_folder() as folder:
        path = folder / "optimized.onnx"
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        kinds = Counter(node.op_type for node in onnx.load(path).graph.node)
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
