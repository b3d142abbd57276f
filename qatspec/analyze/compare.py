"""Where accuracy goes: each quantized layer in float, with fake-quants, and in integers.

Three passes over the same images: the prepared model without quantization (the same weights), the
prepared model with its fake-quants, and the Program. The Program runs twice: end to end, and with
each layer given the very integers that the fake-quant model has there, which tells what a layer
does by itself from what it inherits.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from qatspec.analyze.groups import group_of, step_bound
from qatspec.analyze.measures import Noise, Steps
from qatspec.graph import Prepared
from qatspec.ir import STORAGE, Value, on_host, outputs_of
from qatspec.kinds import ranges
from qatspec.lower.pipeline import Layer, lower_layers
from qatspec.prepare import set_stage
from qatspec.program import Program
from qatspec.program.executor import Executor
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.registry import registry

#: one bit of SQNR
BIT_DB = 20 * math.log10(2)


@dataclass(slots=True, kw_only=True)
class LayerError:
    """One quantized layer: the group of ops that a fake-quant closes, or an int32 tail.

    node, module, source, rule: whose it is (qatspec.program.Provenance); node is unique here.
    reads        nodes of the layers that it reads.
    bound        steps that `local` may reach (rule: one step of accuracy).
    fake_quant   noise of the fake-quant model against float, all layers before included.
    integer      noise of the Program against float, likewise.
    between      noise of the Program against the fake-quant model, likewise.
    local        steps between fake-quant and integers given equal inputs; end_to_end: without.
    lost         dB below the worst of what it reads (see `Comparison.growth`).
    """

    node: str
    module: str
    source: str
    rule: str
    dtype: str
    value: str
    reads: tuple[str, ...]
    bound: int
    fake_quant: Noise = field(default_factory=Noise)
    integer: Noise = field(default_factory=Noise)
    between: Noise = field(default_factory=Noise)
    local: Steps = field(default_factory=Steps)
    end_to_end: Steps = field(default_factory=Steps)
    lost: float = 0.0

    @property
    def departs(self) -> bool:
        """Whether the integers differ by more than the arithmetic allows."""
        return self.local.largest > self.bound


@dataclass(slots=True, kw_only=True)
class OutputError:
    """One output port, dequantized. largest, total, count: of |fake-quant - integer|."""

    name: str
    dtype: str
    fake_quant: Noise = field(default_factory=Noise)
    integer: Noise = field(default_factory=Noise)
    between: Noise = field(default_factory=Noise)
    largest: float = 0.0
    total: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Layers in the order of the model's calls, and the outputs in port order (none where a float
    part on the host makes the model's outputs of them)."""

    images: int
    layers: tuple[LayerError, ...]
    outputs: tuple[OutputError, ...]

    @property
    def departure(self) -> LayerError | None:
        """The first layer whose integers, given equal inputs, differ from the fake-quant's by more
        than its bound."""
        return next((layer for layer in self.layers if layer.departs), None)

    @property
    def growth(self) -> LayerError | None:
        """The first layer where the error grows: its integers lie more than one bit (6 dB) below
        the worst of the layers it reads. What it reads counts at best as its dtype allows for
        numbers of a bell curve, so that exact inputs do not make the first layer stand out."""
        return next((layer for layer in self.layers if layer.lost > BIT_DB), None)

    @property
    def worst(self) -> list[LayerError]:
        """Layers by the SQNR of their integers, lowest first."""
        return sorted(self.layers, key=lambda layer: layer.integer.db)


def compare_layers(prepared: Prepared, batches: Iterable[Sequence[Tensor]]) -> Comparison:
    """Compare on `batches` of the inputs of forward, on the CPU. `prepared` is left in eval stage.
    Raises DiagnosticError where it cannot be lowered."""
    set_stage(prepared, "eval")
    program, calls = lower_layers(prepared, prepared.example_inputs)
    return _Comparing(prepared, program, calls).run(batches)


class _Comparing:
    def __init__(self, prepared: Prepared, program: Program, calls: Sequence[Layer]) -> None:
        self.model, self.program = prepared.model, program
        self.executor = Executor(program)
        self.places = _places(calls)
        #: as the layers' tensors have them
        self.values = {
            layer.value: replace(program.values[layer.value], scale=layer.scale)
            for layer, _ in self.places
        }
        names = set(self.values)
        proven = ranges(program)
        march = registry().march(prepared.march) if prepared.march else None
        max_lsb = march.capabilities.max_lsb if march else {}
        nodes = _unique(layer.origin.node for layer, _ in self.places)
        node_of = {layer.value: node for (layer, _), node in zip(self.places, nodes, strict=True)}
        self.layers: dict[str, LayerError] = {}
        for layer, _ in self.places:
            group = group_of(program, layer.value, names)
            self.layers[layer.value] = LayerError(
                node=node_of[layer.value],
                module=layer.origin.module,
                source=layer.origin.source,
                rule=layer.origin.rule,
                dtype=program.values[layer.value].dtype,
                value=layer.value,
                reads=tuple(node_of[name] for name in group.reads if name in node_of),
                bound=step_bound(group, program, proven, max_lsb),
            )
        # behind a float part on the host, the model's outputs are not the Program's
        self.reaches_outputs = not on_host(program.tree)
        ports = program.outputs if self.reaches_outputs else ()
        self.outputs = [OutputError(name=p.name, dtype=p.dtype) for p in ports]
        self.images = 0

    def run(self, batches: Iterable[Sequence[Tensor]]) -> Comparison:
        for inputs in batches:
            self._batch(inputs)
            self.images += inputs[0].shape[0]
        layers = tuple(self.layers.values())
        by_node = {layer.node: layer for layer in layers}
        for layer in layers:
            inherited = [min(by_node[n].integer.db, _best(by_node[n].dtype)) for n in layer.reads]
            layer.lost = max(0.0, min(inherited) - layer.integer.db) if inherited else 0.0
        return Comparison(images=self.images, layers=layers, outputs=tuple(self.outputs))

    def _batch(self, inputs: Sequence[Tensor]) -> None:
        paths = list(dict.fromkeys(layer.fake_quant for layer, _ in self.places))
        fake, fake_outputs = recorded(self.model, paths, inputs)
        with in_float(self.model):
            real, real_outputs = recorded(self.model, paths, inputs)
        at = {layer.value: (layer, call) for layer, call in self.places}

        def batch_first(tensors: Mapping[str, list[Tensor]], name: str) -> Tensor:
            layer, call = at[name]
            shared = layer.batch_dim.shared(self.program.values[name].shape)
            return layer.batch_dim.in_front(tensors[layer.fake_quant][call], shared)

        expected = {name: _levels(batch_first(fake, name), self.values[name]) for name in at}

        def end_to_end(name: str, integer: Tensor) -> Tensor:
            if name in at:
                self._count(
                    self.layers[name], batch_first(real, name), batch_first(fake, name), integer
                )
                self.layers[name].end_to_end.add(expected[name], integer)
            return integer

        def given_equal_inputs(name: str, integer: Tensor) -> Tensor:
            if name not in at:
                return integer
            self.layers[name].local.add(expected[name], integer)
            # a tail's integers leave the model, and no other op reads them
            tail = self.program.values[name].dtype == "int32"
            return integer if tail else expected[name].to(integer.dtype)

        ints = self._entering(expected)
        if self.reaches_outputs and len(inputs) == len(self.program.inputs):
            ints = self.program.quantize(*(x.numpy() for x in inputs))
        for port, array in zip(self.program.inputs, ints, strict=True):
            end_to_end(port.name, torch.from_numpy(array))
            given_equal_inputs(port.name, torch.from_numpy(array))
        results = self.executor.run(ints, end_to_end)
        self.executor.run(ints, given_equal_inputs)
        if self.reaches_outputs:
            self._outputs(real_outputs, fake_outputs, self.program.dequantize(results))

    def _entering(self, expected: Mapping[str, Tensor]) -> list[np.ndarray]:
        """The integers of the fake-quants at the input ports: of what the host computes, and of
        those inputs that the Program reads."""
        return [expected[p.name].numpy().astype(STORAGE[p.dtype]) for p in self.program.inputs]

    def _count(self, layer: LayerError, real: Tensor, fake: Tensor, integers: Tensor) -> None:
        # as the ports dequantize (rule: typed ports), and as the fake-quant multiplies
        integer = integers.float() * _along(self.values[layer.value], integers.ndim)
        layer.fake_quant.add(real, fake)
        layer.integer.add(real, integer)
        layer.between.add(fake, integer)

    def _outputs(self, real: Any, fake: Any, integer: list[np.ndarray]) -> None:
        """Every port once, where the model's tree of outputs first has it."""
        leaves = zip(outputs_of(self.program.tree), _tensors(real), _tensors(fake), strict=True)
        for port, (_, x, y) in {row[0]: row for row in leaves}.items():
            output, z = self.outputs[port], torch.from_numpy(integer[port])
            output.fake_quant.add(x, y)
            output.integer.add(x, z)
            output.between.add(y, z)
            distance = (y.double() - z.double()).abs()
            output.largest = max(output.largest, float(distance.max()))
            output.total += float(distance.sum())
            output.count += distance.numel()


def _tensors(outputs: Any) -> list[Tensor]:
    """The tensors of what a model returns, without None and numbers."""
    return [leaf for leaf in pytree.tree_leaves(outputs) if isinstance(leaf, Tensor)]


def _places(calls: Sequence[Layer]) -> list[tuple[Layer, int]]:
    """Each value once, with the index of the call of its fake-quant that it corresponds to."""
    counts: Counter[str] = Counter()
    by_value: dict[str, tuple[Layer, int]] = {}
    for layer in calls:
        by_value.setdefault(layer.value, (layer, counts[layer.fake_quant]))
        counts[layer.fake_quant] += 1
    return list(by_value.values())


def _unique(nodes: Iterable[str]) -> list[str]:
    """Nodes of modules that are called several times get the number of the call."""
    counts: Counter[str] = Counter()
    names = []
    for node in nodes:
        counts[node] += 1
        names.append(node if counts[node] == 1 else f"{node}#{counts[node]}")
    return names


def _best(dtype: str) -> float:
    """SQNR in dB of b bits on numbers of a bell curve whose range is 4 standard deviations:
    6.02 b + 4.77 - 20 log10(4) (Oppenheim and Schafer, Discrete-Time Signal Processing, 4.8.3)."""
    bits = 8 * np.dtype(STORAGE[dtype]).itemsize if dtype != "int4" else 4
    return BIT_DB * bits + 10 * math.log10(3) - BIT_DB * 2


def _along(value: Value, ndim: int) -> Tensor:
    """The scale of a value of the Program, shaped to meet its tensor with the batch."""
    assert value.scale is not None
    scale = torch.from_numpy(value.scale)
    if value.axis is None:
        return scale.reshape(())
    return scale.reshape([-1 if d == value.axis else 1 for d in range(ndim)])


def _levels(fake: Tensor, value: Value) -> Tensor:
    """The integers of what leaves a fake-quant; of a tail, the nearest ones."""
    return torch.round(fake.double() / _along(value, fake.ndim).double())


@torch.no_grad()
def recorded(
    model: nn.Module, paths: Iterable[str], inputs: Sequence[Tensor]
) -> tuple[dict[str, list[Tensor]], Any]:
    """(what leaves the fake-quant at each path, call by call; the model's outputs). Copies,
    since an op in place may write upon what leaves the fake-quant before it."""
    outputs_of: dict[str, list[Tensor]] = {path: [] for path in paths}
    handles = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: outputs_of[path].append(output.clone())
        )
        for path in outputs_of
    ]
    try:
        outputs = model(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return outputs_of, outputs


@contextlib.contextmanager
def in_float(model: nn.Module) -> Iterator[None]:
    """Disable every fake-quant of the model inside the block."""
    on = [m for m in model.modules() if isinstance(m, FakeQuantize) and m.fake_quant_on]
    for module in on:
        module.enable_fake_quant(False)
    try:
        yield
    finally:
        for module in on:
            module.enable_fake_quant()
