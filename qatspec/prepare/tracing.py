"""Record what forward computes, in evaluation and in training, and build the traced module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qatspec.diag import Collector, DiagnosticError
from qatspec.graph.context import GraphContext
from qatspec.graph.module import TracedModule
from qatspec.graph.trace import trace_modes
from qatspec.prepare.capture import run_once
from qatspec.prepare.configure import non_traceable, require_attributes, wrapped_functions
from qatspec.prepare.unit import Unit


def trace(unit: Unit) -> None:
    """Set `unit.graph` (evaluation) and `unit.training` from `unit.module` and `unit.call`.

    Raises DiagnosticError: QS501, QS502, QS503, QS510 (see graph.trace), QS504 where the module
    itself fails, QS505 for a name that it lacks.
    """
    module, call, config = unit.module, unit.call, unit.config
    problems = Collector()
    leaves, wrap = [*unit.standalone, *unit.observed], list[Callable[..., Any]]()
    with problems.collect():
        require_attributes(module, config)
    with problems.collect():
        leaves += non_traceable(module, config)
    with problems.collect():
        wrap += wrapped_functions(module, config.wrap)
    if problems:
        raise DiagnosticError(problems.diagnostics)
    graphs = trace_modes(
        module, call.args, call.kwargs, leaf_names=leaves, wrap=wrap, problems=problems
    )
    if problems:
        run_once(module, call.args, call.kwargs)  # perhaps the model itself fails
    if graphs is not None:
        unit.graph, unit.training = graphs
    if problems:
        raise DiagnosticError(problems.diagnostics)
    if not all("example" in n.meta for n in unit.graph.nodes if n.op.startswith("call_")):
        run_once(module, call.args, call.kwargs)


def build_module(unit: Unit) -> None:
    """Replace `unit.module` by a TracedModule, which takes over its parameters, buffers, children
    and attributes: the float module must not be used afterwards."""
    unit.module = TracedModule(unit.module, unit.graph)
    unit.context = GraphContext(unit.module, unit.graph, unit.march)
