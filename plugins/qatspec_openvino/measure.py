"""What is measured of a compiled model: its time on this machine, and how far it is from the
Program."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from qatspec.api import (
    Artifact,
    Program,
    layer_exactness,
    measured_exactness,
    measured_perf,
    qdq_feeds,
    qdq_integers,
    rounded_values,
    scratch_folder,
    time_in_turn,
    to_qdq_onnx,
)
from qatspec_openvino.march import open_artifact, open_model, run


def measure(
    program: Program,
    artifact: Artifact,
    inputs: Sequence[Sequence[np.ndarray]],
    float32: bytes | None,
) -> Mapping[str, Mapping[str, Any]]:
    """Time the model on one thread beside `float32`, and compare each of its layers.

    inputs: integers of the Program's ports, one list an image. Returns "perf" for perf.json and
    "manifest": what to add to the manifest.
    """
    layers = layer_exactness(program, inputs, _layers(program, artifact))
    run_artifact = partial(_run, artifact)
    return {
        "perf": _perf(program, artifact, inputs[0], float32),
        "manifest": measured_exactness(program, inputs, run_artifact, layers),
    }


def _run(artifact: Artifact, *ints: np.ndarray) -> list[np.ndarray]:
    return run(artifact, ints)


def _layers(program: Program, artifact: Artifact) -> Any:
    """What gives OpenVINO's integers of each rounded value."""
    with scratch_folder() as folder:
        to_qdq_onnx(program, folder / "layers.onnx", layers=True, batch=1)
        data = (folder / "layers.onnx").read_bytes()
    model = open_model(data, artifact.manifest["options"], 0)
    names, first = rounded_values(program), len(program.outputs)

    def results(ints: Sequence[np.ndarray]) -> Mapping[str, np.ndarray]:
        arrays = list(model(qdq_feeds(program.inputs, ints)).values())[first:]
        values = [program.values[name] for name in names]
        return dict(zip(names, qdq_integers(values, arrays), strict=True))

    return results


def _perf(
    program: Program, artifact: Artifact, ints: Sequence[np.ndarray], float32: bytes | None
) -> dict[str, Any]:
    options = artifact.manifest["options"]
    batch = options["batch"] or 1
    fed = [np.concatenate([x[:1]] * batch) for x in ints]
    model = open_artifact(artifact, 1)
    runs = [partial(model.create_infer_request().infer, qdq_feeds(program.inputs, fed))]
    if float32 is not None:
        real = [port.dequantize(x) for port, x in zip(program.inputs, fed, strict=True)]
        reference = open_model(float32, options, 1)
        runs.append(partial(reference.create_infer_request().infer, real))
    ours, *others = time_in_turn(runs)
    return measured_perf(
        artifact,
        ours,
        others[0] if others else None,
        threads=1,
        batch=batch,
        facts={
            **artifact.manifest["compiled for"],
            "optimized graph": _kinds(model),
        },
    )


def _kinds(model: Any) -> dict[str, int]:
    """Layers of the graph that OpenVINO runs, with their precision, the most frequent first."""
    kinds: Counter[str] = Counter()
    for node in model.get_runtime_model().get_ordered_ops():
        facts = node.get_rt_info()
        kinds[" ".join(facts[key].astype(str) for key in ("layerType", "runtimePrecision"))] += 1
    return dict(sorted(kinds.items(), key=lambda item: (-item[1], item[0])))
