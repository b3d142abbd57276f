"""Where accuracy goes: each quantized tensor, float against fake-quant against the Program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from qatspec.graph import Prepared
from qatspec.prepare import set_stage
from qatspec.program import Program, interpret_all
from qatspec.program.model import STORAGE
from qatspec.quant.fake_quant import FakeQuantize


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """One quantized tensor. Signal to quantization noise ratios in dB, 10 log10(sum x^2 / sum e^2),
    with x the float model's tensor; infinite where there is no error, None where the Program has
    no such tensor of its own (fused away).

    fake_quant  noise of the fake-quant model, integer: of the Program, all layers before included.
    """

    node: str
    module: str
    fake_quant: float
    integer: float | None


def compare_layers(prepared: Prepared, program: Program, images: Tensor) -> list[LayerError]:
    """Errors in graph order, on `images` (N, C, H, W) float32. `prepared` is left in eval stage."""
    set_stage(prepared, "eval")
    nodes = {d.fake_quant: d for d in prepared.decisions.values() if d.fake_quant is not None}
    quantized = _activations(prepared.model, nodes, images)
    with _in_float(prepared.model):
        real = _activations(prepared.model, nodes, images)
    integers = _integers(program, images)
    found = []
    for path, decision in nodes.items():
        if path not in real:
            continue
        of_program = integers.get(decision.node)
        found.append(
            LayerError(
                node=decision.node,
                module=decision.module,
                fake_quant=sqnr(real[path], quantized[path]),
                integer=None
                if of_program is None or of_program.shape != real[path].shape
                else sqnr(real[path], of_program),
            )
        )
    return found


def sqnr(signal: np.ndarray, other: np.ndarray) -> float:
    """Signal to noise ratio of `other` in dB."""
    power = float(np.square(signal, dtype=np.float64).sum())
    noise = float(np.square(signal.astype(np.float64) - other).sum())
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(power, np.finfo(np.float64).tiny) / noise))


@torch.no_grad()
def _activations(model: nn.Module, paths: Iterable[str], images: Tensor) -> dict[str, np.ndarray]:
    """What leaves the fake-quant at each path."""
    seen: dict[str, np.ndarray] = {}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: seen.update({path: output.numpy()})
        )
        for path in paths
    ]
    try:
        model(images)
    finally:
        for handle in handles:
            handle.remove()
    return seen


@contextlib.contextmanager
def _in_float(model: nn.Module) -> Iterator[None]:
    """The model without any quantization inside the block."""
    on = [m for m in model.modules() if isinstance(m, FakeQuantize) and m.fake_quant_on]
    for module in on:
        module.enable_fake_quant(False)
    try:
        yield
    finally:
        for module in on:
            module.enable_fake_quant()


def _integers(program: Program, images: Tensor) -> dict[str, np.ndarray]:
    """Decision node -> the last quantized tensor that the Program computes for it, as floats."""
    values = interpret_all(program, *program.quantize(images.numpy()))
    found: dict[str, np.ndarray] = {}
    for op in program.ops:
        value = program.values[op.output]
        if value.scale is not None and STORAGE[value.dtype] in (np.int8, np.int16):
            shape = [1] * (len(value.shape) + 1)
            if value.axis is not None:
                shape[value.axis] = -1
            scale = value.scale.reshape(shape)
            found[op.origin.node] = values[op.output].astype(np.float32) * scale
    return found
