"""Where the QAT ONNX, run by onnxruntime, leaves the fake-quant model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from qatspec.analyze.compare import recorded
from qatspec.analyze.measures import Steps
from qatspec.diag.codes import QS721
from qatspec.export.host import PRE, HostRunner, network_feeds
from qatspec.export.qdq import any_batch
from qatspec.export.runner import runtime, session_options
from qatspec.export.uint8 import ZERO_POINTS
from qatspec.graph import Prepared
from qatspec.lower.pipeline import Layer, lower_layers
from qatspec.prepare import set_stage
from qatspec.program.container import read_file
from qatspec.quant.fake_quant import FakeQuantize

#: How onnxruntime is asked to run the file. Of its rewrites, `basic` alone already rounds float
#: biases to int32 steps of input scale x weight scale, as the chip does and fake-quants do not.
LEVELS = {"as written": "ORT_DISABLE_ALL", "optimized": "ORT_ENABLE_ALL"}


@dataclass(slots=True, kw_only=True)
class OnnxError:
    """Steps between fake-quant model and file at one layer, all layers before included."""

    node: str
    steps: Steps = field(default_factory=Steps)


def compare_qat_onnx(
    prepared: Prepared, path: Path, batches: Iterable[Sequence[Tensor]]
) -> dict[str, list[OnnxError]]:
    """Layers in the order of the model's calls for each of LEVELS; int32 tails, which the file
    does not quantize, are left out.

    Raises DiagnosticError QS723 without onnxruntime.
    """
    set_stage(prepared, "eval")
    calls = lower_layers(prepared, prepared.example_inputs)[1]
    off = {n for n, m in prepared.model.named_modules() if getattr(m, "disabled", False)}
    counts: dict[str, int] = {}
    places: list[tuple[Layer, int]] = []
    for layer in calls:
        number = counts[layer.fake_quant] = counts.get(layer.fake_quant, -1) + 1
        if layer.fake_quant not in off:
            places.append((layer, number))
    sessions = {
        name: _session(path, level, [p[0] for p in places]) for name, level in LEVELS.items()
    }
    errors = {name: [OnnxError(node=p[0].origin.node) for p in places] for name in LEVELS}
    host = _host(path)
    for inputs in batches:
        fake = recorded(prepared.model, list(counts), inputs)[0]
        for name, session in sessions.items():
            names = [port.name for port in session.get_inputs()]
            feeds = network_feeds(names, [x.numpy() for x in inputs], host)
            results = session.run([f"{layer.call}.q" for layer, _ in places], feeds)
            for error, (layer, number), integers in zip(errors[name], places, results, strict=True):
                scale = prepared.model.get_buffer(f"{layer.fake_quant}.scale").double()
                levels = torch.round(fake[layer.fake_quant][number].double() / scale)
                fake_quant = prepared.model.get_submodule(layer.fake_quant)
                integers = _without_zero_point(integers, fake_quant)
                error.steps.add(levels, torch.from_numpy(integers))
    return errors


def _without_zero_point(integers: np.ndarray, fake_quant: nn.Module) -> np.ndarray:
    """Integers of a QuantizeLinear that stands for `fake_quant`, less its zero point."""
    assert isinstance(fake_quant, FakeQuantize)
    return integers.astype(np.int64) - (
        ZERO_POINTS[fake_quant.qspec.dtype] if integers.dtype == np.uint8 else 0
    )


def _host(path: Path) -> HostRunner | None:
    """What computes integer inputs in front of the network, where that is beside the file."""
    name = path.name.removesuffix("-qat.onnx")
    has_host = (path.parent / f"{name}{PRE}").exists()
    return HostRunner.load(path.parent, name) if has_host else None


def _session(path: Path, level: str, layers: Sequence[Layer]) -> Any:
    """The file with the integers of every layer as further outputs."""
    ort = runtime()
    model = any_batch(onnx.load_from_string(read_file(path, QS721, "QAT ONNX")))
    for layer in layers:
        model.graph.output.append(onnx.ValueInfoProto(name=f"{layer.call}.q"))
    of_uint8 = any(i.data_type == onnx.TensorProto.UINT8 for i in model.graph.initializer)
    options = session_options(0, of_uint8=of_uint8)
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    # uint8 in place of int8 breaks files of opset 21: onnxruntime leaves the old `output_dtype`
    # on what it moves
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    return ort.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
