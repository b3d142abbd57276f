"""The deploy graph of a prepared model: the whole model in eval mode as one graph, from which
lowering and the ONNX exports start.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, fx, nn
from torch.fx.graph import _PyTreeCodeGen
from torch.nn.utils.parametrize import ParametrizationList
from torch.utils import _pytree as pytree

from qatspec.diag import Collector
from qatspec.graph.arguments import named_parts
from qatspec.graph.batch import Batch
from qatspec.graph.ends import POST_PROCESS
from qatspec.graph.modes import eval_mode
from qatspec.graph.prepared import Prepared
from qatspec.graph.sizes import fixed, is_plain
from qatspec.graph.trace import trace
from qatspec.graph.weights import require_switched_on, require_usable, seed_weights
from qatspec.ir import ATTRIBUTES, CONSTANT, NAMED_TUPLE, in_order
from qatspec.quant.train_only import TrainOnly
from qatspec.spec.symbols import symbol

_CALLS = ("call_function", "call_method", "call_module")


def quantize_custom(prepared: Prepared) -> Prepared:
    """Return `prepared` with its observed custom modules quantized, by `from_observed` of the
    classes of `observed_to_quantized_custom_module_class`. Without any, return it unchanged."""
    if not prepared.quantized_classes:
        return prepared
    model = copy.deepcopy(prepared.model)
    for path, module in list(model.named_modules()):
        cls = prepared.quantized_classes.get(symbol(type(module)))
        if path and cls is not None:
            model.set_submodule(path, cls.from_observed(module).eval())
    return replace(prepared, model=model)


@dataclass(frozen=True, slots=True, eq=False)
class Deployment:
    """A prepared model with its custom modules quantized, and its trace for inputs of one shape. It
    is valid until a module of the model is replaced.

    In the graph, numbers that come from shapes are constants, unless they follow the batch."""

    prepared: Prepared
    graph: fx.Graph
    batch: Batch


def deploy(
    prepared: Prepared, example_inputs: Sequence[Any], problems: Collector | None = None
) -> Deployment:
    """Quantize custom modules and trace the model, as in stage `eval`.

    The model may be in another stage: scales of weights that were never set are set here, as
    `set_stage(prepared, "eval")` does.

    problems: takes in every place that cannot be traced (see `trace`); None: they are raised.

    Raises DiagnosticError: QS609, QS610, QS705 for weights, activations or scales that are not
    finite, QS611 where fake-quants of a model in another stage than calibration are off."""
    prepared = quantize_custom(prepared)
    require_switched_on(prepared)
    require_usable(prepared)
    seed_weights(prepared.model)
    graph = deploy_graph(prepared, example_inputs, problems)
    batch = Batch(prepared.model, graph)
    _inline_fixed_sizes(graph, batch)
    return Deployment(prepared, graph, batch)


def deploy_graph(
    prepared: Prepared, example_inputs: Sequence[Any], problems: Collector | None = None
) -> fx.Graph:
    """Return the trace of `prepared.model` in eval mode. Quantized modules are not entered, nor are
    parametrizations, which may branch on the values of the weights that they compute. Every module
    has its own mode again afterwards. problems: see `trace`."""
    with eval_mode(prepared.model):
        inputs = tuple(example_inputs)
        graph = trace(prepared.model, inputs, leaf=(ParametrizationList,), problems=problems)
    _keep_constants(prepared.model, graph)
    _copy_returned(graph)
    for node in reversed(list(graph.nodes) if problems else []):
        if node.op in _CALLS and not node.users and node.target is not fixed:
            graph.erase_node(node)  # what a refused decision alone reads
    return graph


def _keep_constants(model: nn.Module, graph: fx.Graph) -> None:
    """Let what reads a constant that forward replaces while training read the constant itself."""
    constants: set[fx.Node] = set()
    for node in list(graph.nodes):
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, TrainOnly) and node.args[0] in constants:
            node.replace_all_uses_with(node.args[0])
            graph.erase_node(node)
        elif node.op == "get_attr" or (node.op in _CALLS and {*node.all_input_nodes} <= constants):
            constants.add(node)


def _copy_returned(graph: fx.Graph) -> None:
    """Return copies of parameters and buffers: a float part behind the integers makes them."""
    end = graph.output_node()
    for node in list(end.all_input_nodes):
        if node.op == "get_attr" and isinstance(node.meta.get("example"), Tensor):
            with graph.inserting_before(end):
                copied = graph.call_method("clone", (node,))
            copied.meta = dict(node.meta)
            end.replace_input_with(node, copied)


def _inline_fixed_sizes(graph: fx.Graph, batch: Batch) -> None:
    """Replace the numbers that come from shapes by their values, unless they follow the batch."""
    plain = [n for n in graph.nodes if n.op in _CALLS and is_plain(n.meta.get("example"))]
    fixed_sizes = {n: n.meta["example"] for n in plain if not batch.follows(n)}
    for node in graph.nodes:
        if any(n in fixed_sizes for n in node.all_input_nodes):
            arguments = (node.args, node.kwargs)
            node.args, node.kwargs = fx.node.map_arg(arguments, lambda n: fixed_sizes.get(n, n))
    for node in reversed(graph.nodes):
        unread = node.op in _CALLS and not node.users
        if unread and (is_plain(node.meta.get("example")) or _read_for_size(node)):
            graph.erase_node(node)


def _read_for_size(node: fx.Node) -> bool:
    """Whether an unread node of the post-process was computed for its size or its type alone."""
    return POST_PROCESS in node.meta and carries_tensor(node.meta.get("example"))


def carries_tensor(value: Any) -> bool:
    """Return whether an example value is a tensor, or a list with a tensor in it."""
    if isinstance(value, (list, tuple)):
        return any(carries_tensor(v) for v in value)
    return isinstance(value, Tensor)


def yields_tensor(node: fx.Node) -> bool:
    """Return whether the result of a node is a tensor, or holds one. What a user's module or
    function gives is not known where it reads the numbers of tensors; it counts as one."""
    return node.op in _CALLS if "example" not in node.meta else carries_tensor(node.meta["example"])


def returned(graph: fx.Graph) -> Any:
    """What a graph returns, nested as the model nests it, with nodes and constants as leaves."""
    node = next(n for n in graph.nodes if n.op == "output")
    result = node.args[0]
    codegen = graph._codegen
    if isinstance(codegen, _PyTreeCodeGen) and codegen.pytree_info.out_spec is not None:
        result = pytree.tree_unflatten(list(result), codegen.pytree_info.out_spec)
    return result


def is_plain_constant(value: Any) -> bool:
    """Return whether an output is a constant that a converted model can return."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, (bool, int, str))


def output_tree(graph: fx.Graph) -> tuple[list[Any], Any]:
    """(flat outputs, each once; the tree of their indexes and of constants, as `Program.tree`).
    Tuples without names count as lists."""
    flat: list[Any] = []
    return flat, _index(returned(graph), flat)


def _index(result: Any, flat: list[Any]) -> Any:
    if (parts := named_parts(result)) is not None:
        kind = NAMED_TUPLE if isinstance(result, tuple) else ATTRIBUTES
        return {kind: _index(parts, flat)}
    if isinstance(result, (list, tuple)):
        return [_index(branch, flat) for branch in result]
    if isinstance(result, dict):
        return in_order({str(key): _index(branch, flat) for key, branch in result.items()})
    if is_plain_constant(result):
        return {CONSTANT: result}
    for i, known in enumerate(flat):
        if known is result:
            return i
    flat.append(result)
    return len(flat) - 1
