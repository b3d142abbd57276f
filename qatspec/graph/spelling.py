"""One form for what Python lets a model write in several: tensors by keyword, ops in place."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.fx.operator_schemas import get_signature_for_torch_op
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError
from qatspec.diag.codes import QS502
from qatspec.graph.assign import NEW_TENSORS, assign
from qatspec.graph.sizes import is_plain
from qatspec.graph.source import line_span

#: Names of NumPy for settings, which torch accepts -> torch's own.
_NAMES_OF_NUMPY = {"axis": "dim", "keepdims": "keepdim"}
#: Methods that change the shape of a tensor and none of its numbers.
_VIEWS_IN_PLACE = ("squeeze_", "swapaxes_", "swapdims_", "t_", "transpose_", "unsqueeze_")
_IN_PLACE_OPERATORS = ("iadd", "isub", "imul", "itruediv")


def with_names_of_torch(target: Any, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call with torch's names: `axis=1` as `dim=1`.

    target: a function, or the name of a method of tensors. Functions in Python, such as a user's,
    keep theirs."""
    if isinstance(target, str) or inspect.isbuiltin(target):
        return {_NAMES_OF_NUMPY.get(key, key): value for key, value in kwargs.items()}
    return kwargs


def tensors_by_position(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Move operands that were given by keyword to their positions, F.relu(input=x) to F.relu(x):
    passes and handlers look for tensors in `args`. Settings stay as they are."""
    for node in graph.nodes:
        if not any(_holds_tensor(value) for value in node.kwargs.values()):
            continue
        for signature in _signatures(node, modules):
            if moved := _moved(node, signature):
                node.args, node.kwargs = moved
                break


def follow_in_place(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> None:
    """Let everything behind an op that changes its operand in place read the op's result: what
    Python's aliases mean, said by the graph's edges, which is all that passes look at. What changes
    a part of a tensor, `x[:, :2].relu_()`, is an item assignment of the result.

    Raises DiagnosticError QS502 where another tensor that lies in the changed memory is read later
    (what the operand is a view of, or a view of it), and for the argument `out`.
    """
    refused: list[Diagnostic] = []
    position: dict[fx.Node, float] = {node: i for i, node in enumerate(graph.nodes)}
    parts: dict[fx.Node, _Part] = {}
    for node in list(graph.nodes):
        if node.target is operator.getitem and _is_tensor(node.args[0]):
            parts[node] = _Part(*node.args)
        if isinstance(node.kwargs.get("out"), fx.Node):
            refused.append(_writes_out(node))
        changed = node.args[0] if node.args else None
        if not isinstance(changed, fx.Node) or not writes_in_place(node, modules):
            continue
        for user in list(changed.users):
            if position[user] > position[node]:
                user.replace_input_with(changed, node)
        if node.target in _VIEWS_IN_PLACE:
            node.target = str(node.target)[:-1]
            continue
        others = []
        for other in graph.nodes:
            if other is node:
                break
            read_later = any(position[user] > position[node] for user in other.users)
            if read_later and other is not changed and _overlap(other, changed):
                others.append(other)
        part = parts.get(changed)
        if part is not None and others == [part.x] and _becomes_new(node):
            parts[node] = part
            new = _written_back(graph, node, part, position)
            parts.update({n: _Part(new, p.places) for n, p in parts.items() if p.x is part.x})
        elif others:
            refused.append(_shared_memory(node, changed, others[0]))
    if refused:
        raise DiagnosticError(refused)


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor that is x[places]."""

    x: Any
    places: Any


def _is_tensor(value: Any) -> bool:
    return isinstance(value, fx.Node) and isinstance(value.meta.get("example"), torch.Tensor)


def _written_back(
    graph: fx.Graph, node: fx.Node, part: _Part, position: dict[fx.Node, float]
) -> fx.Node:
    """Let what reads `part.x` behind `node`, which changed the part in place, read the assignment
    of the part to it. Returns that."""
    with graph.inserting_after(node):
        new = graph.call_function(assign, (part.x, part.places, node))
    new.meta.update(node.meta)
    new.meta["example"] = part.x.meta["example"]
    position[new] = position[node] + 0.5
    for user in list(part.x.users):
        if position[user] > position[new]:
            user.replace_input_with(part.x, new)
    return new


def _becomes_new(node: fx.Node) -> bool:
    """Let an op that changes its operand give a new tensor instead; False where torch has no such
    op, and for modules."""
    name = str(getattr(node.target, "__name__", node.target))
    if node.target in NEW_TENSORS:
        node.target = NEW_TENSORS[node.target]
    elif node.op == "call_method" and hasattr(torch.Tensor, name[:-1]):
        node.target = name[:-1]
    elif node.op == "call_function" and name.endswith("_") and hasattr(torch, name[:-1]):
        node.target = getattr(torch, name[:-1])
    else:
        return False
    return True


def _overlap(a: fx.Node, b: fx.Node) -> bool:
    """Return whether the tensors of two nodes share numbers."""
    y = b.meta["example"]
    memory = y.untyped_storage()
    for x in pytree.tree_leaves(a.meta.get("example")):
        if not isinstance(x, torch.Tensor) or x.untyped_storage()._cdata != memory._cdata:
            continue
        numbers = torch.zeros(memory.nbytes() // y.element_size(), dtype=torch.bool)
        numbers.as_strided(y.shape, y.stride(), y.storage_offset()).fill_(True)
        if numbers.as_strided(x.shape, x.stride(), x.storage_offset()).any():
            return True
    return False


def _writes_out(node: fx.Node) -> Diagnostic:
    return QS502.diagnostic(
        f"`{node.name}` writes its result into another tensor, given as `out`",
        help="use the result instead, without `out`: `y = torch.add(a, b)`",
        span=line_span(str(node.meta.get("source", ""))),
    )


def _shared_memory(node: fx.Node, changed: fx.Node, other: fx.Node) -> Diagnostic:
    return QS502.diagnostic(
        f"`{node.name}` changes `{changed.name}` in place, and with it "
        f"`{other.name}`, which lies in the same memory and is read later",
        help="write it without an in-place op, such as `y = y * 2`, and join the parts again",
        span=line_span(str(node.meta.get("source", ""))),
    )


def _holds_tensor(value: Any) -> bool:
    """Return whether a value is a node with a tensor, or a list with one; numbers from shapes are
    not."""
    parts = value if isinstance(value, (list, tuple)) else [value]
    return any(isinstance(p, fx.Node) and not is_plain(p.meta.get("example")) for p in parts)


def _signatures(node: fx.Node, modules: Mapping[str, nn.Module]) -> Iterator[inspect.Signature]:
    if node.op == "call_module":
        yield inspect.signature(modules[str(node.target)].forward)
        return
    target: Any = node.target
    if node.op == "call_method":  # a method's signature is the function's
        target = getattr(torch, str(node.target), None)
    signatures = get_signature_for_torch_op(target) if callable(target) else None
    if signatures:
        yield from signatures
    elif inspect.isfunction(target):
        yield inspect.signature(target)


def _moved(
    node: fx.Node, signature: inspect.Signature
) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """args and kwargs with every operand by position; None where the signature is another's."""
    try:
        bound = signature.bind(*node.args, **node.kwargs)
    except TypeError:
        return None
    bound.apply_defaults()
    positional = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]
    operands = [i for i, name in enumerate(positional) if _holds_tensor(node.kwargs.get(name))]
    if not operands:
        return None
    count = max(len(node.args), operands[-1] + 1)
    args = tuple(bound.arguments[name] for name in positional[:count])
    rest = {key: value for key, value in node.kwargs.items() if key not in positional[:count]}
    return args, rest


def writes_in_place(node: fx.Node, modules: Mapping[str, nn.Module]) -> bool:
    """Return whether the op writes into the tensor that is its first operand."""
    if not isinstance(node.args[0].meta.get("example"), torch.Tensor):  # type: ignore[union-attr]
        return False
    if node.op == "call_module":
        return bool(getattr(modules[str(node.target)], "inplace", False))
    if node.target is assign:
        return True
    name = str(getattr(node.target, "__name__", node.target))
    if node.op == "call_function" and inspect.isfunction(node.target):
        names = list(inspect.signature(node.target).parameters)
        if "inplace" in names:
            at = names.index("inplace")
            setting = node.args[at] if len(node.args) > at else node.kwargs.get("inplace", False)
            return bool(setting)
    return name in _IN_PLACE_OPERATORS or (name.endswith("_") and not name.endswith("__"))


def memory_of(node: fx.Node) -> int | None:
    """An identifier of the memory in which a node's tensor lies; None where it is no tensor."""
    example = node.meta.get("example")
    return example.untyped_storage()._cdata if isinstance(example, torch.Tensor) else None


def changed_in_place(
    nodes: Iterable[fx.Node], modules: Mapping[str, nn.Module]
) -> Iterator[fx.Node]:
    """The tensors that nodes change in place."""
    for node in nodes:
        changed = node.args[0] if node.op.startswith("call_") and node.args else None
        if isinstance(changed, fx.Node) and writes_in_place(node, modules):
            yield changed
