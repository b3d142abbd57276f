"""Modules with `quantize_input: false` must be fed by modules that quantize their results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic
from qatspec.diag.codes import QS603
from qatspec.prepare.capture import Capture
from qatspec.prepare.unit import Unit


def unquantized_inputs(units: Sequence[Unit], capture: Capture) -> list[Diagnostic]:
    """Return an error QS603 for each input of a module with `quantize_input: false` that is not
    quantized (rule: trusted producers)."""
    trusting = [u for u in units if u.path and not u.quantize_input and not u.inner]
    on_grid = _quantized_tensors(units, capture) if trusting else {}
    errors = []
    for unit in trusting:
        for name, tensor in capture.calls[unit.path].tensors():
            if id(tensor) in on_grid or not tensor.is_floating_point():
                continue
            producer = capture.producers.get(tensor)  # type: ignore[no-untyped-call]
            by = f"`{producer}`" if producer else "the model's input or code between modules"
            errors.append(
                QS603.diagnostic(
                    f"`{unit.path}` has quantize_input: false, but its {name} comes from "
                    f"{by}, which is not quantized",
                    help="remove quantize_input: false, or prepare the producer too",
                    at=f"{unit.at}/quantize_input" if unit.at else None,
                )
            )
    return errors


def _quantized_tensors(units: Sequence[Unit], capture: Capture) -> Mapping[int, str]:
    """id of each tensor that a prepared module returns on an integer grid -> that module."""
    quantized_by: dict[int, str] = {}
    for unit in units:
        results = pytree.tree_leaves(capture.calls[unit.path].result)
        outputs = [r for r in results if hasattr(r, "is_floating_point")]
        for tensor, quantized in zip(outputs, unit.quantized_outputs, strict=True):
            if quantized:
                quantized_by[id(tensor)] = unit.path
    return quantized_by
