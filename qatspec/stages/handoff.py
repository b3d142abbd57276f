"""What convert writes for the tools of a chip's vendor: the network in float, their configuration,
and the scales of the training."""

from __future__ import annotations

import importlib.util
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml

from qatspec.diag.codes import QS728
from qatspec.export.handoff import BOUND, float_network, reference
from qatspec.files import encoded, write_file
from qatspec.graph.deploy import Deployment
from qatspec.onnxgraph.seal import sealed
from qatspec.registry import registry
from qatspec.schema import with_defaults
from qatspec.spec import InputSpec, picture_record
from qatspec.stages.context import Context
from qatspec.stages.integers import IMAGES


def write_handoff(context: Context, deployment: Deployment, name: str, batch: int) -> list[Path]:
    """Write NAME-float.onnx, NAME-mapper.yaml and NAME-scales.json beside the files of convert.

    name   of the hand-off, which the march knows. batch: images a run.

    Returns the files. Raises DiagnosticError QS728 where the network has no form in opset 11, or
    where onnxruntime gives other numbers than torch.
    """
    spec = context.spec
    paths = [context.folder / f"{spec.name}{end}" for end in ("-float.onnx", "-mapper.yaml",
                                                              "-scales.json")]  # fmt: skip
    model, scales = float_network(deployment, name=spec.name, batch=batch)
    write_file(paths[0], sealed(model.SerializeToString(deterministic=True)))
    configuration = registry().march(spec.march).handoffs[name](_facts(context, model, paths[0]))
    write_file(paths[1], encoded(yaml.safe_dump(dict(configuration), sort_keys=False)))
    record = {
        "march": spec.march,
        "bound": BOUND,
        **_verified(context, deployment, paths[0], batch),
    }
    text = json.dumps({**record, **scales}, indent=2, allow_nan=False) + "\n"
    write_file(paths[2], encoded(text))
    return paths


def _facts(context: Context, model: onnx.ModelProto, path: Path) -> dict[str, Any]:
    spec = context.spec
    (image,) = spec.inputs.values()
    assert isinstance(image, InputSpec)
    compiling = spec.stages.get("compile")
    march = registry().march(spec.march)
    options: Any = with_defaults(march.options, dict(compiling.options) if compiling else {})
    return {
        **picture_record(image),
        "name": spec.name,
        "march": spec.march,
        "onnx": path.name,
        "input": model.graph.input[0].name,
        "fed": options.get("rt_input_type"),
        "layout": options.get("rt_input_layout"),
        "opt": options.get("opt"),
    }


def _verified(context: Context, deployment: Deployment, path: Path, batch: int) -> dict[str, Any]:
    """How far the file is from torch on images of data.val, as a share of the largest output."""
    if importlib.util.find_spec("onnxruntime") is None:
        context.report("log", {"message": f"onnxruntime is not installed: {path.name} was not run"})
        return {}
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]
    examples: Any = context.examples or (
        drawn.inputs for drawn in context.loader("val", batch_size=1).ordered()
    )
    apart, count = 0.0, 0
    for inputs in itertools.islice(examples, IMAGES):
        repeated = [torch.cat([x[:1]] * batch) for x in inputs]
        expected = reference(deployment, repeated)
        feeds = {n: x.numpy() for n, x in zip(names, repeated, strict=True)}
        for mine, theirs in zip(expected, session.run(None, feeds), strict=True):
            largest = float(np.abs(mine).max(initial=1e-30))
            apart = max(apart, float(np.abs(mine - theirs).max(initial=0)) / largest)
        count += 1
    if not apart <= BOUND:
        raise QS728.error(
            f"`{path.name}` is {apart:.2g} of the largest output away from the network in torch, "
            f"more than {BOUND:g}",
            help="delete `handoff`, and report it with the spec",
            at="/stages/convert/handoff",
        )
    return {"images": count, "apart": float(f"{apart:.3g}")}
