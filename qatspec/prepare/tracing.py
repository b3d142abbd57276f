"""Pass 1, trace: one graph that holds in training and in evaluation."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch.nn.functional as F
from torch import fx, nn
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.words import suggest
from qatspec.graph.gradients import NO_GRAD, cut_gradients
from qatspec.graph.module import TracedModule
from qatspec.graph.ops import canonical_op
from qatspec.graph.source import line_span
from qatspec.graph.trace import trace_modes
from qatspec.prepare.attention import write_out_attention
from qatspec.prepare.batch_sizes import check_batch_sizes
from qatspec.prepare.capture import Call, module_at, run_once
from qatspec.prepare.functional import adopt_calls, adopt_norm, replace_call
from qatspec.spec.symbols import symbol
from qatspec.types import PrepareConfig

_DROPOUTS: dict[Any, type[nn.Module]] = {
    F.dropout: nn.Dropout,
    F.dropout1d: nn.Dropout1d,
    F.dropout2d: nn.Dropout2d,
    F.dropout3d: nn.Dropout3d,
}


def trace_module(
    module: nn.Module, call: Call, config: PrepareConfig, whole: Sequence[str]
) -> TracedModule:
    """Trace `module` with the structure of `call`'s arguments, in both modes.

    whole: paths of modules that are not entered, besides those that `config` names.
    The result takes over the module's tables: do not use the module afterwards.
    Raises DiagnosticError: QS501, QS502 (see graph.trace), QS503 where the modes differ, QS505 for
    a name that the module lacks, QS512 where forward depends on the number of images.
    """
    for name in config.preserved_attributes:
        _require_attribute(module, name)
    leaves = [*whole, *non_traceable(module, config)]
    wrap = wrapped_functions(module, config.wrap)

    try:
        graph, training = trace_modes(module, call.args, call.kwargs, leaf_names=leaves, wrap=wrap)
    except DiagnosticError:
        run_once(module, call.args, call.kwargs)  # perhaps the model itself is at fault
        raise
    if not all("example" in node.meta for node in graph.nodes if node.op.startswith("call_")):
        run_once(module, call.args, call.kwargs)
    _reconcile(module, graph, training)
    cut_gradients(module, graph)
    check_batch_sizes(module, graph)
    write_out_attention(module, graph)
    adopt_calls(module, graph)
    _drop_identities(module, graph)
    return TracedModule(module, graph)


def non_traceable(module: nn.Module, config: PrepareConfig) -> list[str]:
    """Paths of the modules that are not entered, by name and by class."""
    for name in config.non_traceable_module_name:
        module_at(module, name)
    classes = config.non_traceable_module_class
    by_class = [n for n, m in module.named_modules() if n and is_class(m, classes)]
    return [*config.non_traceable_module_name, *by_class]


def is_class(module: nn.Module, classes: Sequence[Any]) -> bool:
    """Is the module an instance of one of `classes`, given as classes or by qualified name?"""
    named = {symbol(c) for c in classes}
    bases = type(module).__mro__
    return any(symbol(b) in named or f"{b.__module__}.{b.__qualname__}" in named for b in bases)


def wrapped_functions(module: nn.Module, names: Sequence[Any]) -> list[Callable[..., Any]]:
    """The functions that `wrap` names: functions themselves, "package.module.function" of a
    module that is loaded already, or the bare name of a function in the model's own files.

    Builtins such as `len` need no wrapping here: structure is real while tracing.
    """
    found = []
    for name in names:
        if callable(name):
            found.append(name)
        elif not hasattr(builtins, name):
            found.append(_function(module, name))
    return found


def _function(module: nn.Module, name: str) -> Callable[..., Any]:
    owner, _, attribute = name.rpartition(".")
    files = [owner] if owner else [type(m).__module__ for m in module.modules()]
    for file in files:
        function = getattr(sys.modules.get(file), attribute, None)
        if callable(function):
            return function  # type: ignore[no-any-return]
    raise DiagnosticError(
        Diagnostic(
            code="QS505",
            message=f"`wrap` names `{name}`, which is no function of the model's files",
            help="give the function's name as the model's file has it, or `package.module.name`",
        )
    )


def _require_attribute(module: nn.Module, name: str) -> None:
    if not hasattr(module, name):
        known = [*vars(module), *(n for n, _ in module.named_children())]
        raise DiagnosticError(
            Diagnostic(
                code="QS505",
                message=f"`preserved_attributes` names `{name}`, which the module lacks",
                help=suggest(name, [k for k in known if not k.startswith("_")]),
            )
        )


def _reconcile(module: nn.Module, graph: fx.Graph, training: fx.Graph) -> None:
    """Make `graph` hold in both modes, or say at which line it cannot."""
    modules = dict(module.named_modules(remove_duplicate=False))
    pairs = list(zip(graph.nodes, training.nodes, strict=False))
    twins: dict[fx.Node, fx.Node] = {}
    for node, other in pairs:
        if _same(node, other, twins):
            if node.op == "call_module" and not _return_alike(node, other):
                raise _differs(node, other)
            twins[other] = node
        elif (op := canonical_op(node, modules)) != canonical_op(other, modules):
            raise _differs(node, other)
        elif op == "dropout":
            twins[other] = _keep_dropout(module, graph, node, other)
        elif op == "batch_norm" and _same(node, other, twins, but=(5, "training")):
            twins[other] = adopt_norm(module, graph, node, fixed=False)
        else:
            raise _differs(node, other)
    if len(graph.nodes) != len(training.nodes):
        raise _differs(*pairs[-1])
    for other, node in twins.items():
        node.meta[NO_GRAD] = other.meta.get(NO_GRAD)  # gradients are those of training


def _same(
    node: fx.Node,
    other: fx.Node,
    twins: dict[fx.Node, fx.Node],
    but: tuple[int, str] = (sys.maxsize, ""),
) -> bool:
    """Are two nodes alike, apart from the argument `but` (its position and its name)?"""

    def arguments(of: fx.Node, name: Callable[[fx.Node], str]) -> str:
        args = [arg for i, arg in enumerate(of.args) if i != but[0]]
        kwargs = {key: arg for key, arg in of.kwargs.items() if key != but[1]}
        return repr(fx.node.map_arg((args, kwargs), name))

    mine = arguments(node, lambda a: a.name)
    theirs = arguments(other, lambda a: twins[a].name)
    return (node.op, node.target, mine) == (other.op, other.target, theirs)


def _return_alike(node: fx.Node, other: fx.Node) -> bool:
    """Does a module return as many tensors, in the same containers, in both modes? True where it is
    not known."""
    examples = [n.meta.get("example") for n in (node, other)]
    if any(example is None for example in examples):
        return True
    one, two = map(pytree.tree_structure, examples)
    return bool(one == two)


def _keep_dropout(module: nn.Module, graph: fx.Graph, node: fx.Node, other: fx.Node) -> fx.Node:
    """F.dropout(x, p, self.training) becomes a module, which knows the mode itself."""
    rate = other.args[1] if len(other.args) > 1 else other.kwargs.get("p", 0.5)
    kept = _DROPOUTS[node.target](float(rate))  # type: ignore[arg-type]
    return replace_call(module, graph, node, kept, node.args[0])


def _drop_identities(module: nn.Module, graph: fx.Graph) -> None:
    """nn.Identity does nothing in either mode; in between it would keep chains from fusing."""
    for node in list(graph.nodes):
        if node.op == "call_module" and type(module.get_submodule(node.target)) is nn.Identity:
            node.replace_all_uses_with(node.args[0], propagate_meta=False)
            graph.erase_node(node)


def _differs(node: fx.Node, other: fx.Node) -> DiagnosticError:
    places = sorted({str(n.meta.get("source")) for n in (node, other)} - {"", "None"})
    where = " and ".join(places) or "its return value"
    return DiagnosticError(
        Diagnostic(
            code="QS503",
            message=f"forward does different things in training and in evaluation, at {where}",
            help="move what only one mode needs out of the prepared module: into the loss, the "
            "post-process, or the model around it; or, where a module returns one "
            "tensor in both, keep it as it is: `prepare: {non_traceable_module_class: [...]}`",
            span=line_span(places[0]) if places else None,
        )
    )
