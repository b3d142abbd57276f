"""Calls that compute a function of one number, and that no quant handler knows, become modules: a
table of the function itself represents them in integers.

Which functions are such is found by trying them: any of torch's, and a user's own.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn

from qatspec.graph.context import GraphContext
from qatspec.graph.refusals import REFUSED
from qatspec.graph.sizes import is_plain
from qatspec.prepare.functional import register
from qatspec.prepare.selecting import as_products
from qatspec.prepare.unit import Unit
from qatspec.quant.elementwise import OP, ElementwiseFunction, is_function_of_one_number

#: A module with more parameters than this is no activation.
_MOST_PARAMETERS = 1024
#: A function of more nodes than this is not looked for.
_LONGEST = 16


def elementwise(unit: Unit) -> None:
    """Make modules of the functions of one number in the unit's graph: first of parts that compute
    with booleans, such as torch.where(x > 0, x, 0.1 * x), then of single calls."""
    context = GraphContext(unit.module, unit.graph)
    units = {*unit.standalone, *unit.observed}
    _parts_with_booleans(context, units)
    as_products(unit.module, unit.graph)
    _parts_with_booleans(context, units)
    for node in list(unit.graph.nodes):
        if node.meta.get(REFUSED):
            continue
        if node.op == "call_module" and str(node.target) not in units:
            _mark_module(context, node)
        elif node.op in ("call_function", "call_method") and (
            context.op(node) is None or _has_learned_exponent(context, node)
        ):
            _make_module(context, [node])


def _has_learned_exponent(context: GraphContext, node: fx.Node) -> bool:
    """Whether it is a power whose exponent is a tensor of the model: a pool of learned means."""
    exponent = [*node.args, node.kwargs.get("exponent")][1] if node.args else None
    learned = context.op(node) == "pow" and isinstance(exponent, fx.Node)
    return learned and context.is_float_tensor(exponent) and context.is_constant(exponent)


# -- modules ---------------------------------------------------------------------------------------


def _mark_module(context: GraphContext, node: fx.Node) -> None:
    """Give a module that is a function of one number the op of such. It stays at its path, with its
    parameters, and rules find it by its class."""
    module = context.module(node)
    if module is None or context.op(node) is not None or not _keeps_shape(context, node):
        return
    if len(node.args) != 1 or node.kwargs or not _is_small(module):
        return
    if _is_function(context, module, node.args[0], ()):
        module.canonical_op = OP  # type: ignore[assignment]


def _is_small(module: nn.Module) -> bool:
    count = sum(p.numel() for p in (*module.parameters(), *module.buffers()))
    return count <= _MOST_PARAMETERS


# -- calls -----------------------------------------------------------------------------------------


def _make_module(context: GraphContext, nodes: Sequence[fx.Node]) -> None:
    """Replace calls by one of a module, if they are a function of one number; the last of them is
    the result."""
    result, inside = nodes[-1], set(nodes)
    read = dict.fromkeys(n for node in nodes for n in node.all_input_nodes if n not in inside)
    sources = [n for n in read if not context.is_constant(n)]
    if len(sources) != 1 or not _keeps_shape(context, result, sources[0]):
        return
    operands = [*sources, *(n for n in read if n is not sources[0])]
    body, made = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in operands:
        made[node] = body.placeholder(node.name)
    for node in nodes:
        made[node] = body.node_copy(node, lambda n: made[n])
        made[node].meta = {}
    body.output(made[result])
    names = context.rule_names(result) if len(nodes) == 1 else ()
    module = ElementwiseFunction(body, _modules_of(context, nodes), names)
    if not _is_function(context, module, operands[0], operands[1:]):
        return
    path = register(context.root, f"{result.name}_function", module)
    with context.graph.inserting_after(result):
        call = context.graph.call_module(path, tuple(operands))
    call.meta.update(result.meta)
    result.replace_all_uses_with(call, propagate_meta=False)
    context.graph.erase_node(result)
    call.name = result.name
    for node in reversed(nodes[:-1]):
        if not node.users:
            context.graph.erase_node(node)
    context.forget_modules()


def _modules_of(context: GraphContext, nodes: Iterable[fx.Node]) -> nn.Module:
    """A module that holds copies of the modules that the nodes call, at the same paths."""
    root = nn.Module()
    for node in nodes:
        if node.op == "call_module":
            *owners, name = str(node.target).split(".")
            owner = root
            for part in owners:
                if not hasattr(owner, part):
                    owner.add_module(part, nn.Module())
                owner = getattr(owner, part)
            setattr(owner, name, copy.deepcopy(context.module(node)))
    return root


def _is_function(
    context: GraphContext, module: nn.Module, source: Any, constants: Sequence[fx.Node]
) -> bool:
    """Whether a module computes a function of one number of the node `source`."""
    others = [_on_cpu(context.constant(n)) for n in constants]
    tried = copy.deepcopy(module).to("cpu").eval()
    example = context.value(source)
    return is_function_of_one_number(
        lambda x: tried(x, *others), tuple(example.shape), example.dtype
    )


def _on_cpu(value: Any) -> Any:
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _keeps_shape(context: GraphContext, node: fx.Node, source: Any = None) -> bool:
    """Whether the result is a float tensor of the shape and dtype of the one that is read."""
    if source is None:
        source = node.args[0] if node.args else None
    if not context.is_float_tensor(node) or not context.is_float_tensor(source):
        return False
    y, x = context.value(node), context.value(source)
    return (y.shape, y.dtype) == (x.shape, x.dtype)


# -- parts that compute with booleans --------------------------------------------------------------


def _parts_with_booleans(context: GraphContext, units: set[str]) -> None:
    for node in list(context.graph.nodes):
        if _reads_boolean(context, node) and (part := _part(context, node, units)):
            _make_module(context, part)


def _is_discrete(context: GraphContext, node: Any) -> bool:
    """Whether a node gives a tensor of booleans or integers that depends on an input."""
    value = context.value(node) if isinstance(node, fx.Node) else None
    is_tensor = isinstance(value, Tensor) and not value.is_floating_point()
    return is_tensor and not context.is_constant(node)


def _reads_boolean(context: GraphContext, node: fx.Node) -> bool:
    """Whether a node computes a float tensor from a boolean or integer one."""
    reads = any(_is_discrete(context, n) for n in node.all_input_nodes)
    return node.op.startswith("call_") and reads and context.is_float_tensor(node)


def _part(context: GraphContext, result: fx.Node, units: set[str]) -> list[fx.Node] | None:
    """The smallest part of the graph that computes `result` from one float tensor, in order; None
    where there is none."""
    position = {node: i for i, node in enumerate(context.graph.nodes)}
    part = {result}
    while len(part) <= _LONGEST:
        read = {n for node in part for n in node.all_input_nodes if n not in part}
        read = {n for n in read if not context.is_constant(n)}
        others = {n for n in read if not context.is_float_tensor(n)}
        if not others and len(read) == 1:
            return sorted(part, key=position.__getitem__)
        if not read:
            return None
        last = max(others or read, key=position.__getitem__)
        if not _can_move(context, last, units):
            return None
        part.add(last)
    return None


def _can_move(context: GraphContext, node: fx.Node, units: set[str]) -> bool:
    """Whether a node can be computed inside another module: a call without parameters."""
    module = context.module(node)
    if module is not None:
        has_state = any(True for _ in (*module.parameters(), *module.buffers()))
        return not has_state and str(node.target) not in units
    return node.op in ("call_function", "call_method") and (
        is_plain(context.value(node)) or isinstance(context.value(node), torch.Tensor)
    )
