"""What a report measures anew: the model of a run, on pictures of data.val."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from qatspec.analyze.compare import Comparison, LayerError, compare_layers, in_float, recorded
from qatspec.graph import Prepared
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.report.flow import Flow, flow
from qatspec.report.pictures import Shown, difference, show
from qatspec.stages.context import Context
from qatspec.stages.models import open_model, open_prepared, result_file
from qatspec.train.evaluate import Predicted, predictions
from qatspec.types import TaskModel

#: Examples whose activations are counted in histograms, and bins of each.
_OBSERVED, _BINS = 4, 80
#: Layers with a histogram: those with the most noise.
HISTOGRAMS = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """The numbers of an activation, in float and quantized.

    edges    (bins + 1) of the bins; real, quantized: counts of each bin.
    clipped  share of the numbers in float outside of `low` to `high`, the range of the integers.
    """

    node: str
    dtype: str
    edges: Sequence[float]
    real: Sequence[int]
    quantized: Sequence[int]
    low: float
    high: float
    clipped: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What was measured.

    stage    of the quantized checkpoint; images: examples that it was run on.
    layers   node -> noise of its activation (LayerError).
    ranges   path of a fake-quant -> (least, greatest) number that it passes.
    classes  names of the labels.
    shown    predictions in float and in integers, the most different first.
    details  "float" and "integer" -> what the data set tells of each class (Dataset.details).
    """

    stage: str
    images: int
    layers: Mapping[str, LayerError]
    ranges: Mapping[str, tuple[float, float]]
    histograms: Sequence[Histogram]
    graph: Flow
    shown: Sequence[Shown] = ()
    classes: Sequence[str] = ()
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def measure(context: Context, stage: str, results: Sequence[str], images: int) -> Measured:
    """Run the quantized model of a run, and compare its predictions with those in float.

    context  of the run, limited to `images` examples of data.val.
    stage    whose checkpoint is run: qat or calibration.
    results  what else the run has: of "float" and "integer", the predictions of each.

    Raises DiagnosticError where the results cannot be read.
    """
    prepared, _ = open_prepared(context, result_file(context, stage))
    loader = context.loader("val", batch_size=1)
    batches = [batch.inputs for batch in loader.ordered()]
    comparison = compare_layers(prepared, batches)
    layers = {layer.node: layer for layer in comparison.layers}
    made = {name: _predictions(context, name) for name in results}
    return Measured(
        stage=stage,
        images=comparison.images,
        layers=layers,
        ranges=_ranges(prepared.model),
        histograms=_histograms(prepared, comparison, batches[:_OBSERVED]),
        graph=flow(prepared),
        shown=_shown(context, made),
        classes=tuple(map(str, context.dataset("val").classes)),
        details=_details(context, made),
    )


def _predictions(context: Context, result: str) -> list[Predicted]:
    produce = open_model(context, result_file(context, result))
    predict = cast(TaskModel, context.build_model().eval()).predict
    loader = context.loader("val", batch_size=1)
    return predictions(produce, predict, loader, device=context.device)


def _ranges(model: nn.Module) -> dict[str, tuple[float, float]]:
    return {
        path: _range(module)
        for path, module in model.named_modules()
        if isinstance(module, FakeQuantize) and not module.disabled
    }


def _range(fake_quant: FakeQuantize) -> tuple[float, float]:
    """The least and greatest number of the fake-quant's integers, of its widest channel."""
    scale = float(fake_quant.scale.detach().max())
    return fake_quant.qspec.qmin * scale, fake_quant.qspec.qmax * scale


def _histograms(
    prepared: Prepared, comparison: Comparison, batches: Sequence[Sequence[Tensor]]
) -> list[Histogram]:
    """Histograms of the activations with the most noise, noisiest first."""
    paths: dict[str, str] = {}
    by_noise = sorted(comparison.layers, key=lambda layer: layer.fake_quant.db)
    for layer in by_noise:
        decision = prepared.decisions.get(layer.node)
        if decision is not None and decision.fake_quant is not None:
            paths.setdefault(decision.fake_quant, layer.node)
    chosen = dict(list(paths.items())[:HISTOGRAMS])
    real: dict[str, list[np.ndarray]] = {path: [] for path in chosen}
    fake: dict[str, list[np.ndarray]] = {path: [] for path in chosen}
    for inputs in batches:
        quantized, _ = recorded(prepared.model, chosen, inputs)
        with in_float(prepared.model):
            exact, _ = recorded(prepared.model, chosen, inputs)
        for path in chosen:
            real[path] += [x.numpy().ravel() for x in exact[path]]
            fake[path] += [x.numpy().ravel() for x in quantized[path]]
    return [
        _histogram(node, prepared.model.get_submodule(path), real[path], fake[path])
        for path, node in chosen.items()
        if real[path]
    ]


def _histogram(
    node: str, module: nn.Module, real: Sequence[np.ndarray], fake: Sequence[np.ndarray]
) -> Histogram:
    assert isinstance(module, FakeQuantize)
    exact, quantized = np.concatenate(real), np.concatenate(fake)
    low, high = _range(module)
    edges = _edges(exact, float(module.scale.detach().max()))
    outside = (exact < low - abs(low) / 2**20) | (exact > high + high / 2**20)
    return Histogram(
        node=node,
        dtype=module.qspec.dtype,
        edges=[float(f"{edge:.6g}") for edge in edges],
        real=np.histogram(exact, edges)[0].tolist(),
        quantized=np.histogram(np.clip(quantized, edges[0], edges[-1]), edges)[0].tolist(),
        low=low,
        high=high,
        clipped=float(outside.mean()),
    )


def _edges(numbers: np.ndarray, step: float) -> np.ndarray:
    """Edges of about _BINS bins, each of as many steps of the integers as every other, so that the
    steps make no pattern of their own."""
    first, last = np.floor(numbers.min() / step), np.ceil(numbers.max() / step)
    width = max(1.0, np.ceil((last - first + 1) / _BINS))
    count = int(np.ceil((last - first + 1) / width))
    edges: np.ndarray = (first - 0.5 + width * np.arange(count + 1)) * step
    return edges


def _shown(context: Context, made: Mapping[str, Sequence[Predicted]]) -> list[Shown]:
    if set(made) != {"float", "integer"} or len(context.inputs) != 1:
        return []
    given = next(iter(context.inputs.values()))
    classes = context.dataset("val").classes
    shown: list[Shown] = []
    loaded = context.loader("val", batch_size=1).ordered()
    pairs = zip(made["float"], made["integer"], loaded, strict=True)
    for (meta, real), (_, integer), batch in pairs:
        distance = difference(real, integer)
        if distance is None:
            return []
        picture = batch.inputs[0][0].cpu().numpy()
        name = str(meta.get("id", len(shown)))
        shown.append(show(name, given, picture, real, integer, classes, distance))
    return sorted(shown, key=lambda one: -one.difference)


def _details(
    context: Context, made: Mapping[str, Sequence[Predicted]]
) -> dict[str, Mapping[str, Any]]:
    dataset = context.dataset("val")
    tell = getattr(getattr(dataset, "limited", dataset), "details", None)
    return {name: tell(predicted) for name, predicted in made.items()} if tell else {}


def decibels(value: float) -> float | None:
    """A ratio in dB with two decimals; None where nothing differs."""
    return round(value, 2) if math.isfinite(value) else None
