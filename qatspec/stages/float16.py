"""The files of convert in float16, and how far they are from those in float32."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from qatspec.export.float16 import demand_finite, distances, in_float16
from qatspec.export.host import POST, PRE, HostRunner, network_feeds
from qatspec.files import write_file
from qatspec.onnxgraph.seal import sealed
from qatspec.program import Program
from qatspec.stages.context import Context
from qatspec.stages.integers import IMAGES, open_host, quantized

_END = "-float16.onnx"
Feeds = list[dict[str, np.ndarray]]


def write_float16(
    context: Context, program: Program, files: Sequence[Path], batch: int | None
) -> dict[Path, dict[str, dict[str, float]]]:
    """Write each of `files` that computes in float a second time, as NAME-float16.onnx.

    program: that of the same model. files: the QAT ONNX and the parts on the host. batch: images a
    run of the QAT ONNX, None: any number.

    Returns, for each new file, the distance of each output to float32's, on images of data.val;
    nothing of them where onnxruntime is not installed. Raises DiagnosticError QS727 where a number
    that float32 holds becomes infinite.
    """
    written: dict[Path, dict[str, dict[str, float]]] = {}
    halves: dict[Path, Path] = {}
    for path in files:
        model = in_float16(onnx.load(path))
        if model is None:
            message = f"float16: `{path.name}` has no layer in float, it is the file to use"
            context.report("log", {"message": message})
            continue
        halves[path] = path.with_name(path.name.removesuffix(".onnx") + _END)
        data = sealed(model.SerializeToString(deterministic=True))
        write_file(halves[path], data)
        written[halves[path]] = {}
    if not halves or importlib.util.find_spec("onnxruntime") is None:
        return written
    feeds = _feeds(context, program, list(halves), batch)
    for path, half in halves.items():
        measured = distances(onnx.load(path), feeds[path])
        if context.examples is None:  # numbers of a trial before training say nothing
            demand_finite(half, measured)
        written[half] = {
            name: {"largest": distance.largest, "apart": distance.apart}
            for name, distance in measured.items()
        }
    return written


def _feeds(
    context: Context, program: Program, files: Sequence[Path], batch: int | None
) -> dict[Path, Feeds]:
    """Inputs by name for each file, one mapping an image."""
    host = open_host(context.folder, context.spec.name, program.tree)
    examples: Any = context.examples or (
        drawn.inputs for drawn in context.loader("val", batch_size=1).ordered()
    )
    feeds: dict[Path, Feeds] = {path: [] for path in files}
    for inputs in itertools.islice(examples, IMAGES):
        arrays = [x.numpy() for x in inputs]
        for path in files:
            if path.name.endswith(POST):
                assert host is not None
                feeds[path].append(_behind(context, program, host, arrays))
            elif path.name.endswith(PRE):
                assert host is not None
                feeds[path].append(dict(zip(_names(host.pre), arrays, strict=True)))
            else:
                repeated = [np.concatenate([x[:1]] * (batch or 1)) for x in arrays]
                feeds[path].append(network_feeds(_inputs(path), repeated, host))
    return feeds


def _behind(
    context: Context, program: Program, host: HostRunner, arrays: Sequence[np.ndarray]
) -> dict[str, np.ndarray]:
    """What the part behind the integers is fed for one image."""
    ints = quantized(program, host, arrays, tuple(context.inputs))
    real = program.dequantize(program.run(*ints))
    fed = host.fed_behind(program.tree, real, arrays)
    return dict(zip(_names(host.post), fed, strict=True))


def _names(session: Any) -> list[str]:
    return [port.name for port in session.get_inputs()]


def _inputs(path: Path) -> list[str]:
    return [port.name for port in onnx.load(path).graph.input]
