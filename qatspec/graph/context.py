"""Read access to a traced graph, for passes and handlers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import fx, nn

from qatspec.graph.constants import evaluate
from qatspec.graph.modes import eval_mode
from qatspec.graph.ops import canonical_op, has_trait, resolve_spelling, rule_names
from qatspec.graph.sizes import is_plain
from qatspec.quant.modules import QuantOp, as_quant_op
from qatspec.registry import registry
from qatspec.types import OpTrait

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Call = TypeVar("Call", bound="DataclassInstance")


#: Metadata of the last field of a call's record, whose list may also be spread: permute(0, 2, 1).
REST: Mapping[str, bool] = {"rest": True}


class GraphContext:
    """Read access to one traced graph: ops, modules, and the example values that tracing saw.

    march: the march that a handler may treat specially; None: generic, or no preset asks for it.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph, march: str | None = None) -> None:
        self.root = root
        self.graph = graph
        self.march = march
        self._constant: dict[fx.Node, bool] = {}

    @cached_property
    def modules(self) -> Mapping[str, nn.Module]:
        """Every submodule by path, shared ones under each of their paths."""
        return dict(self.root.named_modules(remove_duplicate=False))

    def is_constant(self, node: Any) -> bool:
        """Return whether `node` depends on no input: a parameter, a buffer, or computed from
        these."""
        known = self._constant
        if isinstance(node, fx.Node) and node not in known:
            for other in self.graph.nodes:  # inputs of a node stand before it
                if other not in known:
                    computed = other.op.startswith("call_")
                    known[other] = other.op == "get_attr" or (
                        computed and all(known[n] for n in other.all_input_nodes)
                    )
        return known.get(node, False)

    def is_returned_constant(self, node: fx.Node) -> bool:
        """Return whether `node` makes a tensor of parameters, buffers and sizes, that of the batch
        too, which is returned and that no other op reads."""
        if not node.op.startswith("call_") or [user.op for user in node.users] != ["output"]:
            return False
        waiting = [node]
        while waiting:
            here = waiting.pop()
            if is_plain(here.meta.get("example")) or here.op == "get_attr":
                continue
            if not here.op.startswith("call_"):
                return False
            waiting += here.all_input_nodes
        return True

    def constant(self, node: Any) -> Any:
        """Return the present value of a `node` for which `is_constant` holds; anything else
        as it is."""
        return evaluate(self.root, node)

    def forget_modules(self) -> None:
        """Forget which submodules there are; a pass calls it after it has replaced some."""
        vars(self).pop("modules", None)

    def module(self, node: fx.Node) -> nn.Module | None:
        """Return the module that a call_module `node` calls; None for other nodes."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def quant_op(self, node: fx.Node) -> QuantOp | None:
        """Return the op with a quantized weight that `node` calls: ours, or our form of a class
        that the spec brings. None where no weight is quantized, or where the class computes
        something else than its form."""
        module = self.module(node)
        if module is None or isinstance(module, QuantOp):
            return module
        with eval_mode(module), torch.no_grad():
            form = as_quant_op(module)
            if form is None:
                return None
            x = torch.arange(prod(shape := self.shape(node.args[0])), dtype=torch.float32)
            x = torch.sin(x).reshape(shape).to(form.weight_fake_quant.scale.device)
            same = torch.allclose(module(x), form(x), rtol=1e-4, atol=1e-5)
        return form if same else None

    def op(self, node: fx.Node) -> str | None:
        """Return the canonical op name of `node`; None where no handler has the op."""
        return canonical_op(node, self.modules)

    def has_trait(self, node: fx.Node, trait: OpTrait) -> bool:
        """Return whether the op of the node has a trait, according to its handler."""
        return has_trait(self.op(node), trait)

    def moves(self, node: fx.Node) -> bool:
        """Return whether the op of the node only moves numbers."""
        op = self.op(node)
        handler = registry().handler_for(op) if op else None
        return handler is not None and handler.annotate(node, self).kind == "passive"

    def label(self, node: fx.Node) -> str:
        """Return the canonical op name of `node`, else the name of its class, function or
        method."""
        module = self.module(node)
        target = node.target if module is None else type(module)
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        return self.op(node) or name

    def rule_names(self, node: fx.Node) -> tuple[str, ...]:
        """Return the names by which an object_type rule can address `node`, the canonical one
        first."""
        return rule_names(node, self.modules)

    def source(self, node: fx.Node) -> str:
        """Return "file:line" of the model's code behind `node`, "" when unknown; for a node of a
        prepared module's generated code, the line that was traced when it was prepared."""
        path, name = node.meta.get("origin") or ("", "")
        prepared = self.modules.get(path)
        nodes = prepared.graph.nodes if isinstance(prepared, fx.GraphModule) else ()
        traced = next((other for other in nodes if other.name == name), node)
        return str(traced.meta.get("source") or node.meta.get("source", ""))

    def value(self, node: Any) -> Any:
        """Return the example value of `node`: a meta tensor, a tree of them, or plain Python."""
        return node.meta.get("example") if isinstance(node, fx.Node) else node

    def is_float_tensor(self, node: Any) -> bool:
        """Return whether the value of the node is a floating-point tensor."""
        value = self.value(node)
        return isinstance(value, torch.Tensor) and value.is_floating_point()

    def carries_float(self, node: fx.Node) -> bool:
        """Return whether `node` has a float tensor, a list or tuple with one in it, or no
        example."""
        if "example" not in node.meta:
            return True
        value = self.value(node)
        parts = value if isinstance(value, (list, tuple)) else [value]
        return any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in parts)

    def shape(self, node: Any) -> tuple[int, ...]:
        """Return the shape of the example tensor of `node`, batch included."""
        return tuple(self.value(node).shape)

    def call(self, node: fx.Node, kind: type[Call]) -> Call:
        """Return the arguments of the op at `node` as a record, whatever its spelling.

        kind: a dataclass whose fields have the names and the order of torch's parameters, the
        operand first. Of a module the others are its attributes. The last field takes all arguments
        that are left where its metadata is REST. Numbers that the model computes from shapes are
        numbers here; tensors are nodes, or the module's own. `kind.ORDERS` has, by spelling, the
        order of functions that have another.
        """
        first, *others = fields(kind)
        module = self.module(node)
        if module is not None:
            settings = {f.name: getattr(module, f.name) for f in others if hasattr(module, f.name)}
            return kind(**{first.name: node.args[0]}, **settings)
        orders: Mapping[str, tuple[str, ...]] = getattr(kind, "ORDERS", {})
        names = [f.name for f in (first, *others)]
        for spelling, order in orders.items():
            names = list(order) if resolve_spelling(spelling) is node.target else names
        args = node.args
        if others and others[-1].metadata.get("rest") and len(args) > len(names):
            args = (*args[: len(names) - 1], args[len(names) - 1 :])
        known = {**dict(zip(names, args, strict=False)), **node.kwargs}
        settings = {
            name: fx.node.map_arg(known[name], self._number) for name in names if name in known
        }
        return kind(**settings)

    def _number(self, node: fx.Node) -> Any:
        value = node.meta.get("example", node)
        parts = value if isinstance(value, (list, tuple)) else [value]
        return node if any(isinstance(v, torch.Tensor) for v in parts) else value

    def float_inputs(self, node: fx.Node) -> Iterator[fx.Node]:
        """Yield the argument nodes of `node` that carry float tensors, in order, each once."""
        return (n for n in node.all_input_nodes if self.is_float_tensor(n))
