"""lower: one walk over the traced model, each node by its handler, each group closed by its
fake-quant, everything that cannot be lowered reported at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import fx

from qatspec.diag import Collector, Diagnostic, DiagnosticError, Note, grouped
from qatspec.diag.codes import QS701, QS702
from qatspec.graph import Decision, DecisionKind, Prepared
from qatspec.graph.advice import without_integers
from qatspec.graph.batch import Batch
from qatspec.graph.context import GraphContext
from qatspec.graph.deploy import Deployment, deploy, output_tree, yields_tensor
from qatspec.graph.float_parts import is_inside
from qatspec.graph.modes import eval_mode
from qatspec.graph.refusals import REFUSED
from qatspec.graph.source import line_span
from qatspec.ir import HOST, Provenance, renumbered
from qatspec.lower.boundary import input_port, lower_input, lower_output
from qatspec.lower.closing import fake_quant_of, grid_of, grids
from qatspec.lower.constants import fold
from qatspec.lower.integer_results import as_int32
from qatspec.lower.origin import origins
from qatspec.lower.pictures import on_pictures
from qatspec.lower.split import split
from qatspec.lower.unserved import known_reason
from qatspec.lowering import (
    FailedOperand,
    Lowering,
    PendingSum,
    RealInput,
    Unlowerable,
    pending,
)
from qatspec.lowering.batch_dim import BatchDim
from qatspec.lowering.integer_tensors import is_integer_tensor
from qatspec.program import Program, ProgramBuilder
from qatspec.registry import registry
from qatspec.spec.symbols import symbol
from qatspec.types import Float, OpTrait

_BETWEEN = (
    "no prepared module holds it, and prepared modules stand before and behind it: prepare it with "
    "them, or list only the modules before it under `quantize: modules`"
)


class NotLowered(DiagnosticError):
    """Ops cannot be lowered, for the reasons in `diagnostics`. part: what was lowered of the rest,
    to be compared with a march; an input stands for each quantized result of an op that was not."""

    def __init__(self, diagnostics: Sequence[Diagnostic], part: Program) -> None:
        super().__init__(grouped(diagnostics))
        self.part = part


def lower(
    prepared: Prepared,
    example_inputs: Sequence[Any],
    name: str = "model",
    *,
    deployment: Deployment | None = None,
) -> Program:
    """Lower a prepared model to integers.

    prepared        the model; its stage does not count and stays. The Program computes what the
                    model does after `set_stage(prepared, "eval")`.
    example_inputs  as forward takes them; their shapes fix all but the batch.
    name            the Program's.
    deployment      that of `prepared` and these inputs, where the caller has it.

    Returns the Program. Where forward does more than what is prepared, the Program is what is
    prepared, its ports are named after the nodes at the boundary, its tree says so (`HOST`), and
    `qatspec.lower.split` has the float parts before and behind it.

    Raises NotLowered with every op that cannot be lowered (QS701-QS706), and what `deploy` raises.
    """
    return lower_layers(prepared, example_inputs, name, deployment=deployment)[0]


@dataclass(frozen=True, slots=True)
class Layer:
    """One call of a fake-quant, and where its integers are in the Program.

    fake_quant  path of the fake-quant module; disabled where the value is an int32 tail.
    call        name of the call in the deploy graph, and in the QAT ONNX.
    value       name of the Program's value.
    scale       of the call's tensor; the value's own where the value is not also another tensor's
                (x and 2 * x).
    axis        dim of the value along which `scale` lies, the batch being 0; None: one scale.
    batch_dim   which dim of the call's tensor holds the batch; in the value it is the first.
    origin      the group that the fake-quant closes.
    """

    fake_quant: str
    call: str
    value: str
    scale: np.ndarray
    axis: int | None
    batch_dim: BatchDim
    origin: Provenance


def lower_layers(
    prepared: Prepared,
    example_inputs: Sequence[Any],
    name: str = "model",
    *,
    deployment: Deployment | None = None,
) -> tuple[Program, tuple[Layer, ...]]:
    """`lower`, and every quantized layer in the order of the calls. A layer whose integers are
    also another's (a fake-quant that changes nothing) comes once a fake-quant."""
    problems = Collector()
    deployment = deployment or deploy(prepared, example_inputs, problems)
    with eval_mode(deployment.prepared.model):  # a computed weight may depend on the mode
        return _lowered(deployment, name, problems)


def _lowered(
    deployment: Deployment, name: str, problems: Collector
) -> tuple[Program, tuple[Layer, ...]]:
    prepared, graph = deployment.prepared, deployment.graph
    context = GraphContext(prepared.model, graph, prepared.march)
    origin = origins(prepared)
    builder = ProgramBuilder(name, prepared.march, registry().arithmetic(prepared.march))
    lowering = Lowering(builder, context, origin, grids(context))
    cut = split(deployment, context)
    lowering.host = frozenset((*cut.before, *cut.after))
    for node in graph.nodes:
        lowering.node = node
        if node.op == "output" or not yields_tensor(node):
            continue
        if node.op == "placeholder" and not node.users:
            continue  # an input that forward does not read has no port
        entering = node in cut.entering
        if cut and not entering and (node in lowering.host or node.op == "placeholder"):
            continue
        lowering.lowered[node] = None
        whose = origin(node)
        with _collect(problems, node, prepared, context, whose):
            if fold(node, lowering):
                del lowering.lowered[node]
            elif entering or node.op == "placeholder":
                lowering.lowered[node] = lower_input(node, lowering)
            else:
                decision = prepared.decisions.get(whose.node)
                lowering.lowered[node] = _lower(node, lowering, decision, deployment.batch)
                _follows_batch(node, lowering, deployment.batch)
    flat, tree = output_tree(graph)
    if cut.after:
        flat, tree = list(cut.leaving), list(range(len(cut.leaving)))
    names = []
    for node in flat:
        lowering.node = node if isinstance(node, fx.Node) else graph.output_node()
        with _collect(problems, lowering.node, prepared, context, origin(lowering.node)):
            names.append(lower_output(node, lowering))
    if problems:
        raise NotLowered(problems.diagnostics, builder.part(_values(lowering)))
    ports = list(dict.fromkeys(names))  # one value may leave twice
    tree = renumbered(tree, [ports.index(n) for n in names])
    program = builder.finish(ports, {HOST: tree} if cut else tree)
    return program, tuple(_layers(lowering, program, origin))


def _values(lowering: Lowering) -> list[str]:
    """The values that stand for tensors of the model."""
    parts = [p for x in lowering.lowered.values() for p in (x if isinstance(x, list) else [x])]
    return [term.value for part in parts if isinstance(part, PendingSum) for term in part.terms]


def _layers(
    lowering: Lowering, program: Program, origin: Callable[[fx.Node], Provenance]
) -> Iterator[Layer]:
    for node, x in lowering.lowered.items():
        if fake_quant_of(node, lowering.context.modules) is None or not isinstance(x, PendingSum):
            continue
        term = x.terms[0]
        if len(x.terms) == 1 and not x.bounded and term.value in program.values:
            scale, dim = term.scale.astype(np.float32), lowering.batch_dim(term)
            call = (str(node.target), node.name, term.value)
            yield Layer(*call, scale, term.axis, dim, origin(node))


def _lower(node: fx.Node, lowering: Lowering, decision: Decision | None, batch: Batch) -> Any:
    context = lowering.context
    fake_quant = fake_quant_of(node, context.modules)
    if fake_quant is not None:
        operand = node.args[0]
        grid = grid_of(fake_quant, str(node.target))
        if isinstance(lowering.lowered.get(operand), RealInput) or grid is None:  # type: ignore[arg-type]
            return lowering.value(operand)
        refused = lowering.lowered.get(operand, operand) is None  # type: ignore[arg-type]
        if refused and "example" in node.meta and batch.is_first(node):
            return input_port(node, grid, lowering)
        name = f"{operand.name}.q" if isinstance(operand, fx.Node) else node.name
        return pending(lowering.quantize(lowering.value(operand), grid, name))
    if node.meta.get(REFUSED):
        raise FailedOperand
    op = context.op(node)
    handler = registry().handler_for(op) if op else None
    if handler is None:
        module = context.module(node)
        name = context.rule_names(node)[-1] if module is None else symbol(type(module))
        if known := known_reason(node, name, context):
            raise Unlowerable(QS701, *known, by_rule=False)
        by_plugin = f'serve it by a plugin, `QuantHandler(ops=("{name}",), ...)`, '
        if module is not None and not any(True for _ in module.parameters()):
            pattern = f"{{additional_quant_pattern: {{{name}: NAME}}}}"
            by_plugin += f"or by the handler NAME that a plugin has, `prepare: {pattern}`, "
        advice = f"{by_plugin}or {without_integers(None)}"
        raise Unlowerable(QS701, "no quant handler knows this op", advice, by_rule=False)
    if decision is not None and decision.kind is DecisionKind.UNSUPPORTED and decision.op == op:
        raise Unlowerable(QS701, decision.cause, without_integers(handler), by_rule=False)
    if any(lowering.lowered.get(n, n) is None for n in node.all_input_nodes):
        raise FailedOperand
    with registry().attribute_errors(handler, f"handler `{handler.name}`, lowering `{node.name}`,"):
        if handler.lower is None:
            intent = handler.annotate(node, context).output
            reason = intent.reason if isinstance(intent, Float) else f"{op} has no integer form"
            raise Unlowerable(QS701, reason, without_integers(handler), by_rule=False)
        if OpTrait.IMAGES in handler.traits:
            result = on_pictures(handler.lower, node, lowering)
        else:
            result = handler.lower(node, lowering)
    if isinstance(result, (list, tuple)):
        return [pending(part) for part in result]
    result = pending(result)
    _check_shape(result, lowering)
    if is_integer_tensor(context.value(node)):
        return pending(as_int32(result, lowering))
    return result


def _check_shape(x: PendingSum, lowering: Lowering) -> None:
    """Fail where `x` has another shape than this node's tensor. A handler that expects the batch in
    the first dim gives such a result where the batch is in another one."""
    dim, shape = lowering.batch_dim(x), lowering.shape()
    value = lowering.value_shape(x)
    without_batch = (*value[: dim.batch], *value[dim.batch + dim.extra :])
    wanted = (*shape[: dim.batch], *shape[dim.batch + 1 :])
    if not dim.is_first and without_batch != wanted:
        lowering.fail(
            "it goes by the dims of a tensor whose batch is alone and in front",
            "permute or reshape its operand to (batch, ...) before",
        )


def _follows_batch(node: fx.Node, lowering: Lowering, batch: Batch) -> None:
    """Fail where the result has as many images as the example, whatever the batch."""
    if not batch.is_open or not isinstance(lowering.lowered[node], PendingSum):
        return
    if all(isinstance(size, int) for size in batch.sizes(node)):
        lowering.fail(
            "it picks images of the batch by their number",
            "keep the whole batch: `x` for `x[:2]`, and pick images outside the model",
        )


@contextlib.contextmanager
def _collect(
    problems: Collector,
    node: fx.Node,
    prepared: Prepared,
    context: GraphContext,
    origin: Provenance,
) -> Iterator[None]:
    """Turn what a node raises into a diagnostic that names module, source line and rule."""
    try:
        yield
    except FailedOperand:
        pass
    except Unlowerable as problem:
        where = f" in module `{origin.module}`" if origin.module else ""
        ruled = origin.rule and problem.by_rule
        notes = (Note("decided by this rule", at=origin.rule),) if ruled else ()
        between = (
            problem.code in (QS701, QS702)
            and node.op.startswith("call_")
            and not any(is_inside(node, path) for path in prepared.modules)
        )
        subject = f"`{node.name}`{where}"
        problems.add(
            problem.code.diagnostic(
                f"{context.label(node)} {subject}: {problem.reason}",
                help=_BETWEEN if between else problem.help,
                span=line_span(origin.source),
                notes=notes,
                subject=subject,
            )
        )
