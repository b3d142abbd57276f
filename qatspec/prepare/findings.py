"""What people check a prepared model for: int32 tails, shared modules, parts left in float."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from torch import nn

from qatspec.graph.module import TracedModule
from qatspec.graph.prepared import Prepared
from qatspec.prepare.unit import join
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.fold import QuantFold


@dataclass(frozen=True, slots=True)
class SharedModule:
    """A module with weights that is called at several places. folds: batch norms that fold it."""

    path: str
    calls: int
    folds: int


@dataclass(frozen=True, slots=True)
class Findings:
    """tails       paths of fake-quants that are off, because their output is not quantized.
    shared      modules with weights that are called more than once.
    float_parts children of the model that hold no fake-quant (loss, post-process, ...).
    strays      fake-quants outside the prepared modules: there must be none.
    """

    tails: tuple[str, ...]
    shared: tuple[SharedModule, ...]
    float_parts: tuple[str, ...]
    strays: tuple[str, ...]


def findings(prepared: Prepared) -> Findings:
    """Return the findings of a prepared model."""
    model = prepared.model
    everything = model.named_modules(remove_duplicate=False)
    fake_quants = [(n, m) for n, m in everything if isinstance(m, FakeQuantize)]
    inside = tuple(f"{path}." if path else "" for path in prepared.modules)
    return Findings(
        tails=tuple(name for name, module in fake_quants if module.disabled),
        shared=tuple(_shared(model)),
        float_parts=tuple(
            name
            for name, child in model.named_children()
            if not any(isinstance(m, FakeQuantize) for m in child.modules())
        ),
        strays=tuple(name for name, _ in fake_quants if not name.startswith(inside)),
    )


def _shared(model: nn.Module) -> list[SharedModule]:
    calls: Counter[str] = Counter()
    folds: Counter[str] = Counter()
    for path, module in model.named_modules():
        if not isinstance(module, TracedModule):
            continue
        for node in module.graph.nodes:
            if node.op != "call_module":
                continue
            called = module.get_submodule(node.target)
            if isinstance(called, QuantFold):
                owner = join(path, node.args[1].target.rpartition(".")[0])
                calls[owner] += 1
                folds[owner] += 1
            elif any(True for _ in called.parameters()):
                calls[join(path, node.target)] += 1
    return [SharedModule(path, n, folds[path]) for path, n in calls.items() if n > 1]
