"""lower: one walk over the traced model, each node by its handler, each group closed by its
fake-quant, everything that cannot be lowered reported at once."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from torch import fx

from qatspec.diag import Diagnostic, DiagnosticError, Note, Span
from qatspec.graph import Prepared
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import carries_tensor, deploy_graph, output_tree, quantize_custom
from qatspec.lower.boundary import lower_input, lower_output
from qatspec.lower.closing import fake_quant_of, target_of, targets
from qatspec.lower.context import Lowering, RealInput, Skipped, Unlowerable
from qatspec.lower.origin import origins
from qatspec.program import Program, ProgramBuilder, Provenance, unflatten
from qatspec.registry import registry
from qatspec.types import Arithmetic, Float


def lower(prepared: Prepared, example_inputs: Sequence[Any], name: str = "model") -> Program:
    """The integers of `prepared`'s deploy model (eval mode, images in, raw outputs out).

    example_inputs: as forward takes them; their shapes fix all but the batch. The model is not
    changed; scales are read whatever stage it is in. name: the Program's.

    Raises DiagnosticError with every op that cannot be lowered: QS701-QS706.
    """
    prepared = quantize_custom(prepared)
    graph = deploy_graph(prepared, example_inputs)
    context = GraphContext(prepared.model, graph, prepared.march)
    origin = origins(graph, prepared)
    builder = ProgramBuilder(name, prepared.march, _arithmetic(prepared.march))
    lowering = Lowering(builder, context, origin, targets(context.modules))
    found: list[Diagnostic] = []
    for node in graph.nodes:
        lowering.node = node
        if node.op in ("get_attr", "output") or not carries_tensor(context.value(node)):
            continue
        lowering.lowered[node] = None
        with _collect(found, node, context, origin(node)):
            lowering.lowered[node] = _lower(node, lowering)
    flat, tree = output_tree(graph)
    names = []
    for node in flat:
        lowering.node = node if isinstance(node, fx.Node) else lowering.node
        with _collect(found, lowering.node, context, origin(lowering.node)):
            names.append(lower_output(node, lowering))
    if found:
        raise DiagnosticError(found)
    ports = list(dict.fromkeys(names))  # one value may leave twice
    return builder.finish(ports, unflatten(tree, [ports.index(n) for n in names]))


def _lower(node: fx.Node, lowering: Lowering) -> Any:
    context = lowering.context
    if node.op == "placeholder":
        return lower_input(node, lowering)
    fake_quant = fake_quant_of(node, context.modules)
    if fake_quant is not None:
        operand = node.args[0]
        target = target_of(fake_quant, str(node.target))
        if isinstance(lowering.lowered.get(operand), RealInput) or target is None:  # type: ignore[arg-type]
            return lowering.value(operand)
        name = f"{operand.name}.q" if isinstance(operand, fx.Node) else node.name
        return lowering.quantize(lowering.value(operand), target, name)
    op = context.op(node)
    handler = registry().handler_for(op) if op else None
    if handler is None:
        lowering.fail("no handler knows this op", "use ops that qatspec knows, or move it out")
    if handler.lower is None:
        intent = handler.annotate(node, context).output
        reason = intent.reason if isinstance(intent, Float) else f"{op} has no integer form"
        lowering.fail(reason, "move it into `predict`, or replace it")
    return handler.lower(node, lowering)


def _arithmetic(march: str | None) -> Arithmetic:
    return Arithmetic() if march is None else registry().march(march).arithmetic


@contextlib.contextmanager
def _collect(
    found: list[Diagnostic], node: fx.Node, context: GraphContext, origin: Provenance
) -> Iterator[None]:
    """Turn what a node raises into a diagnostic that names module, source line and rule."""
    try:
        yield
    except Skipped:
        pass
    except Unlowerable as problem:
        op = context.op(node) or str(node.target)
        where = f" in module `{origin.module}`" if origin.module else ""
        path, _, line = origin.source.rpartition(":")
        notes = (Note("decided by this rule", at=origin.rule),) if origin.rule else ()
        found.append(
            Diagnostic(
                code=problem.code,
                message=f"{op} `{node.name}`{where}: {problem.reason}",
                help=problem.help,
                span=Span(path, int(line)) if path and line.isdigit() else None,
                notes=notes,
            )
        )
