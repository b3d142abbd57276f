"""Tracing that keeps the structure of the example inputs and knows the shapes of tensors.

Lists, tuples and dicts of tensors among the inputs are real containers while tracing, so that
`for x in feats`, `len(feats)`, `zip` and asserts on structure simply run. Beside each node goes an
example value (a fake tensor: shape and dtype, no numbers), so that shape arithmetic and asserts on
shapes run too. What depends on the numbers themselves is an error with the model's file:line.
"""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, fx, nn

from qatspec.diag import Collector, Diagnostic, Span
from qatspec.diag.codes import QS502, QS503, QS510
from qatspec.graph.advice import in_evaluation_alone, untraceable
from qatspec.graph.alike import write_with_sizes
from qatspec.graph.gradients import NO_GRAD
from qatspec.graph.modes import assigned_buffers, kept_attributes, kept_modes
from qatspec.graph.refusals import Refusals
from qatspec.graph.source import line_span, model_span
from qatspec.graph.spelling import follow_in_place, tensors_by_position
from qatspec.graph.steps import Steps, called_modules, forget, steps_around
from qatspec.graph.tracer import Tracer

#: what Python or torch says (a regular expression) -> what to write instead
_INSTEAD = (
    (r"item assignment", "write it without assignment: `torch.where`, `torch.cat`, or a factor"),
    (r"np\.ndarray|numpy\.ndarray|__array_\w+", "write the NumPy step with torch functions"),
    (
        r"takes \d+ positional argument|PyList_Check|expected size to be one of|'split_sizes'"
        r"|invalid combination of arg",
        "a tensor that forward does not compute is given a size of one that it computes: set it "
        "with `self.register_buffer(...)` in `__init__`",
    ),
    (
        r"descriptor '(\w+)' for 'torch\._C",
        r"call it on the tensor: `x.\1(...)` instead of `torch.Tensor.\1(x, ...)`",
    ),
)

#: What Python's assignments with an operator call, which then assign the tensor itself.
_ON_ITSELF = {operator.iadd, operator.isub, operator.imul, operator.itruediv}


def trace(
    module: nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    leaf: Sequence[type[nn.Module]] = (),
    leaf_names: Sequence[str] = (),
    wrap: Sequence[Callable[..., Any]] = (),
    problems: Collector | None = None,
) -> fx.Graph:
    """Record `module.forward` as a graph in the module's present mode; the module is not changed.

    example_inputs, example_kwargs: as forward takes them, trees of tensors and plain values.
    Plain values are frozen into the graph. leaf, leaf_names: modules that are not entered, by
    class and by path. wrap: functions that are recorded as one node.

    Each node carries meta["example"] (fake tensors, absent where it could not be computed),
    meta["owner"] (path of the module whose forward made it) and meta["source"] ("file:line" of
    the model's code, "" when unknown).

    problems: takes in every place that is refused, QS501 control flow on a tensor's numbers and
    QS502 other code that cannot be traced; None: they are raised as a DiagnosticError, as they are
    where there is no graph.
    """
    refused = Collector() if problems is None else problems
    refusals = Refusals(refused, _untraceable)
    tracer = Tracer(example_inputs, example_kwargs or {}, leaf, leaf_names, wrap, refusals)
    graph = _traced(module, tracer)
    if graph is None or problems is None:
        refused.raise_if_any()
    assert graph is not None
    modules = dict(module.named_modules(remove_duplicate=False))
    tensors_by_position(graph, modules)  # the passes 3 to 5 of prepare
    with refused.collect():
        follow_in_place(graph, modules)
    write_with_sizes(graph)
    if problems is None:
        refused.raise_if_any()
    return graph


def trace_modes(
    module: nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any],
    *,
    leaf_names: Sequence[str] = (),
    wrap: Sequence[Callable[..., Any]] = (),
    problems: Collector,
) -> tuple[fx.Graph, fx.Graph] | None:
    """(the graph in evaluation, the graph in training) as recorded: see `trace`, but
    without its rewrites. Every module has its own mode again afterwards.

    problems: takes in every place that is refused: those that `trace` raises, random numbers in
    evaluation and those that Python draws (QS510), and a batch norm that uses the statistics of the
    batch there (QS503). Graphs of refused code show what further places there are. Returns None
    where there are no graphs."""

    def tracer_for(steps: Steps) -> Tracer:
        refusals = Refusals(Collector(), _untraceable)
        functions = (*wrap, *steps.functions)
        return Tracer(example_inputs, example_kwargs, (), leaf_names, functions, refusals)

    tracer = tracer_for(Steps())
    buffers = dict(module.named_buffers(remove_duplicate=False))
    with kept_modes(module), kept_attributes(module) as restore:
        evaluation = _traced(module.eval(), tracer)
        if tracer.refusals.problems:
            restore()
            known = _with_steps(module, tracer, tracer_for, restore)
            evaluation, tracer = known or (evaluation, tracer)
        problems.add(tracer.refusals.problems.diagnostics)
        problems.add(_random(name, span) for span, name in tracer.random.drawn.items())
        problems.add(_in_python(n, span) for span, n in tracer.random.drawn_in_python.items())
        problems.add(_in_training(path) for path, m in module.named_modules() if _normalizes(m))
        if evaluation is None:
            return None
        modules = dict(module.named_modules(remove_duplicate=False))
        problems.add(_by_batch(n) for n in evaluation.nodes if _lacks_statistics(n, modules))
        always = {(path, name) for path, name, _ in _assigned(module)}
        tracer.refusals.problems = problems
        training = _traced(module.train(), tracer)
        if training is not None:  # else the second trace has read what the first one assigned
            problems.add(_write_back(module, training, buffers, always))
        problems.add(_in_python(n, span) for span, n in tracer.random.drawn_in_python.items())
        return None if training is None else (evaluation, training)


def _with_steps(
    module: nn.Module,
    refused: Tracer,
    tracer_for: Callable[[Steps], Tracer],
    restore: Callable[[], None],
) -> tuple[fx.Graph, Tracer] | None:
    """Trace evaluation once more, with the steps that cannot be traced and that training does not
    run as calls. Returns the graph and its tracer; None where that is not possible. Where training
    alone can be traced, the help of the places in `refused` says what to do.

    restore: undoes what a run of forward assigned to attributes."""
    trained = _training(module, tracer_for(Steps()))
    restore()
    if trained is None:
        return None
    code, graph = trained
    shared = called_modules(graph) & called_modules(refused.graph)
    places = refused.refusals.running
    for depth in range(max(map(len, places), default=0)):
        steps = steps_around(module, places, code, depth)
        if steps is None:
            break
        tracer = tracer_for(steps)
        with steps.recorded():
            evaluation = _traced(module, tracer)
        is_traced = evaluation is not None and not tracer.refusals.problems
        if evaluation is not None and is_traced and shared <= called_modules(evaluation):
            return evaluation, tracer
        forget(module, steps)
        restore()
    advised = in_evaluation_alone(refused.refusals.problems.diagnostics)
    refused.refusals.problems = Collector(advised)
    return None


def _training(module: nn.Module, tracer: Tracer) -> tuple[set[CodeType], fx.Graph] | None:
    """(the code that runs in training, the graph of it); None where it cannot be traced either."""
    ran: set[CodeType] = set()
    frame: FrameType | None = sys._getframe()
    while frame is not None:  # what runs around both
        ran.add(frame.f_code)
        frame = frame.f_back

    def note(frame: FrameType, event: str, _: Any) -> None:
        if event == "call":
            ran.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        graph = _traced(module.train(), tracer)
    finally:
        sys.setprofile(before)
        module.eval()
    return None if graph is None or tracer.refusals.problems else (ran, graph)


def _normalizes(module: nn.Module) -> bool:
    """Whether the module normalizes with the statistics of the batch in its present mode."""
    return isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training


def _lacks_statistics(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Whether a node calls a batch norm that keeps no running statistics."""
    module = modules[str(node.target)] if node.op == "call_module" else None
    is_norm = isinstance(module, nn.modules.batchnorm._BatchNorm)
    return is_norm and module.running_mean is None  # type: ignore[union-attr]


def _assigned(module: nn.Module) -> Iterator[tuple[str, str, fx.Node]]:
    """(path of the module, name, node) of the buffers that forward replaced while it was traced.
    `x += 1` is a step on the buffer itself, and how many batches a norm has seen is not needed."""
    for path, owner in module.named_modules():
        for name, proxy in assigned_buffers(owner).items():
            if name != "num_batches_tracked" and proxy.node.target not in _ON_ITSELF:
                yield path, name, proxy.node


def _write_back(
    module: nn.Module,
    training: fx.Graph,
    buffers: Mapping[str, Tensor],
    always: Container[tuple[str, str]],
) -> Iterator[Diagnostic]:
    """Let the graph of training copy into buffers what forward assigns to them: a graph has no
    other such step.

    buffers: those of the module, by path. always: (path, name) of those that evaluation assigns to
    as well. Yields QS502 for these, and where the buffer cannot take the new numbers."""
    output = training.output_node()
    for path, name, node in list(_assigned(module)):
        buffer = f"{path}.{name}".lstrip(".")
        old, new = buffers[buffer], node.meta.get("example")
        fits = isinstance(new, Tensor) and (new.shape, new.dtype) == (old.shape, old.dtype)
        if (path, name) in always or not fits or node.graph is not training:
            yield _unfitting(path, name, node, fits)
            continue
        assert isinstance(new, Tensor)
        with training.inserting_before(output):
            stored = training.get_attr(buffer)
            copied = training.call_method("copy_", (stored, node))
        for step in (stored, copied):
            step.meta.update(node.meta, example=torch.empty_like(new))
        copied.meta[NO_GRAD] = True


def _unfitting(path: str, name: str, node: fx.Node, fits: bool) -> Diagnostic:
    advice = (
        f"change it while training alone, `self.{name}.copy_(...)` under `if self.training:` and "
        "`torch.no_grad()`"
        if fits
        else "register it in `__init__` with the shape and the type that forward assigns; what is "
        "of the size of a batch is an argument of forward, which returns the new one"
    )
    return QS502.diagnostic(
        f"forward assigns what it computes to the buffer `{f'{path}.{name}'.lstrip('.')}`"
        f"{'' if fits else ', which has another shape or type'}: "
        "a recorded graph would leave the buffer as it is",
        help=advice,
        span=line_span(str(node.meta.get("source", ""))),
        subject=f"`{path}`",
    )


def _by_batch(node: fx.Node) -> Diagnostic:
    return QS503.diagnostic(
        f"batch norm `{node.target}` has no running statistics: in evaluation, too, it normalizes "
        "with those of the batch, so that the result for one image depends on the others",
        help="build it with `track_running_stats=True` and train it; a trained model gets the "
        "statistics of example inputs from `qatspec.api.prepare`",
        span=line_span(str(node.meta.get("source", ""))),
        subject=f"`{node.target}`",
    )


def _random(name: str, span: Span | None) -> Diagnostic:
    return QS510.diagnostic(
        f"the model draws random numbers in evaluation: `{name}`",
        help="pass the mode, `F.dropout(x, p, training=self.training)`, use torch.nn.Dropout, or "
        "draw under `if self.training:` outside the prepared modules",
        span=span,
    )


def _in_python(name: str, span: Span | None) -> Diagnostic:
    return QS510.diagnostic(
        f"forward draws numbers from `{name}`: a recorded graph would repeat those that were drawn "
        "while it was recorded",
        help="draw them once in `__init__`; what is random in training is a torch.nn.Dropout, or "
        "a factor that is computed by torch.rand",
        span=span,
    )


def _in_training(path: str) -> Diagnostic:
    return QS503.diagnostic(
        f"batch norm `{path}` stays in training mode when the model is set to evaluation",
        help="let `train(False)` of the model reach it",
        subject=f"`{path}`",
    )


def _traced(module: nn.Module, tracer: Tracer) -> fx.Graph | None:
    """The graph of the module; None where tracing could not go on behind what it reported."""
    while True:
        graph, error = None, None
        try:
            graph = tracer.run(module)
        except Exception as raised:  # noqa: BLE001 - whatever the model's code raises
            error = raised
        if tracer.random.needs_to_watch_python():
            tracer.watches_python = True
        elif error is None:
            return graph
        elif not tracer.refusals.retry():
            tracer.refusals.fail("", module, error)
            return None


def _untraceable(path: str, module: nn.Module, error: Exception) -> Diagnostic:
    subject = f" in `{path}`" if path else ""
    return QS502.diagnostic(
        f"`{type(module).__name__}`{subject} cannot be traced: {_first_line(error)}",
        help=untraceable(_instead(str(error)), type(module) if path else None),
        span=model_span(error.__traceback__),
        subject=subject,
    )


def _instead(said: str) -> str:
    matches = ((re.search(words, said), instead) for words, instead in _INSTEAD)
    return next(
        (m.expand(instead) for m, instead in matches if m), "write the step in torch functions"
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
