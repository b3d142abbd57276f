"""Pass 7, verify: what must hold of a prepared model, whatever led to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import fx
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError, InternalError
from qatspec.prepare.capture import Capture
from qatspec.prepare.unit import Unit
from qatspec.quant.fake_quant import FakeQuantize


def verify_unit(unit: Unit) -> None:
    """The graph is well formed, runs what it names, and quantizes no tensor twice in a row."""
    unit.graph.lint()
    unit.module.recompile()
    for node in unit.graph.nodes:
        if not _is_fake_quant(unit, node):
            continue
        producer = node.args[0]
        if isinstance(producer, fx.Node) and _is_fake_quant(unit, producer):
            raise InternalError(f"{unit.key(node)} quantizes {producer.name} a second time")


def verify_inputs(units: Sequence[Unit], seen: Capture) -> list[Diagnostic]:
    """Errors for modules with quantize_input: false that are fed something unquantized
    (rule: trusted producers)."""
    trusting = [u for u in units if u.path and not u.quantize_input and not u.inner]
    on_grid = _quantized_tensors(units, seen) if trusting else {}
    found = []
    for unit in trusting:
        for name, tensor in seen.calls[unit.path].tensors():
            if id(tensor) in on_grid or not tensor.is_floating_point():
                continue
            producer = seen.producers.get(tensor)  # type: ignore[no-untyped-call]
            by = f"`{producer}`" if producer else "the model's input or code between modules"
            found.append(
                Diagnostic(
                    code="QS603",
                    message=f"`{unit.path}` has quantize_input: false, but its {name} comes from "
                    f"{by}, which is not quantized",
                    help="remove quantize_input: false, or prepare the producer too",
                    at=f"{unit.at}/quantize_input" if unit.at else None,
                )
            )
    return found


def _quantized_tensors(units: Sequence[Unit], seen: Capture) -> Mapping[int, str]:
    """id of each tensor that a prepared module returns on an integer grid -> that module."""
    found: dict[int, str] = {}
    for unit in units:
        results = pytree.tree_leaves(seen.calls[unit.path].result)
        outputs = [r for r in results if hasattr(r, "is_floating_point")]
        for tensor, quantized in zip(outputs, unit.quantized_outputs, strict=True):
            if quantized:
                found[id(tensor)] = unit.path
    return found


def raise_if_any(found: Sequence[Diagnostic]) -> None:
    """Stop at the end of a phase."""
    if found:
        raise DiagnosticError(found)


def _is_fake_quant(unit: Unit, node: fx.Node) -> bool:
    if node.op != "call_module":
        return False
    return isinstance(unit.module.get_submodule(str(node.target)), FakeQuantize)
