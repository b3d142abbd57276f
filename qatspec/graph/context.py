"""What a pass or a handler may ask of a traced graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from math import prod
from typing import Any

import torch
from torch import fx, nn

from qatspec.graph.constants import evaluate
from qatspec.graph.modes import eval_mode
from qatspec.graph.ops import canonical_op, rule_names
from qatspec.quant.modules import QuantOp, as_quant_op


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
        """Does it depend on no input: a parameter, a buffer, or computed from such alone?"""
        known = self._constant
        if isinstance(node, fx.Node) and node not in known:
            for other in self.graph.nodes:  # inputs of a node stand before it
                if other not in known:
                    computed = other.op.startswith("call_")
                    known[other] = other.op == "get_attr" or (
                        computed and all(known[n] for n in other.all_input_nodes)
                    )
        return known.get(node, False)

    def constant(self, node: Any) -> Any:
        """The present value of a node for which `is_constant` holds; anything else as it is."""
        return evaluate(self.root, node)

    def forget_modules(self) -> None:
        """Look the submodules up anew: a pass has swapped some."""
        vars(self).pop("modules", None)

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a call_module node calls, else None."""
        return self.modules[str(node.target)] if node.op == "call_module" else None

    def quant_op(self, node: fx.Node) -> QuantOp | None:
        """The op with a quantized weight that a node calls: ours, or our form of a class that the
        spec brings. None where no weight is quantized, or where the class computes something else
        than its form."""
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
        """The canonical op name, None where the table lacks the op."""
        return canonical_op(node, self.modules)

    def label(self, node: fx.Node) -> str:
        """The canonical op name, else the name of the class, function or method."""
        module = self.module(node)
        target = node.target if module is None else type(module)
        name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
        return self.op(node) or name

    def rule_names(self, node: fx.Node) -> tuple[str, ...]:
        """The names by which an object_type rule can address the node."""
        return rule_names(node, self.modules)

    def value(self, node: Any) -> Any:
        """The example value of a node: a meta tensor, a tree of them, or plain Python."""
        return node.meta.get("example") if isinstance(node, fx.Node) else node

    def is_float_tensor(self, node: Any) -> bool:
        """Does the node carry a floating-point tensor (what quantization is about)?"""
        value = self.value(node)
        return isinstance(value, torch.Tensor) and value.is_floating_point()

    def carries_float(self, node: fx.Node) -> bool:
        """A float tensor, a list or tuple with one in it, or something without an example."""
        if "example" not in node.meta:
            return True
        value = self.value(node)
        parts = value if isinstance(value, (list, tuple)) else [value]
        return any(isinstance(v, torch.Tensor) and v.is_floating_point() for v in parts)

    def shape(self, node: Any) -> tuple[int, ...]:
        """Shape of the example tensor, batch included."""
        return tuple(self.value(node).shape)

    def argument(self, node: fx.Node, position: int, name: str, default: Any = None) -> Any:
        """An argument of a functional call, given by position or by name. Numbers that the model
        computes from shapes are numbers here; tensors are nodes."""
        given = node.args[position] if len(node.args) > position else node.kwargs.get(name, default)
        return fx.node.map_arg(given, self._number)

    def _number(self, node: fx.Node) -> Any:
        value = node.meta.get("example", node)
        parts = value if isinstance(value, (list, tuple)) else [value]
        return node if any(isinstance(v, torch.Tensor) for v in parts) else value

    def setting(self, node: fx.Node, position: int, name: str, default: Any = None) -> Any:
        """A setting of an op, whatever its spelling: the module's attribute `name`, or the
        functional call's argument."""
        module = self.module(node)
        if module is not None:
            return getattr(module, name, default)
        return self.argument(node, position, name, default)

    def permutation(self, node: fx.Node) -> tuple[int, ...]:
        """Of a permute or transpose: the operand's dim at each dim of the result."""
        rank = len(self.shape(node))
        if self.op(node) == "permute":
            dims = self.argument(node, 1, "dims")
            order = dims if isinstance(dims, (tuple, list)) else node.args[1:]
            return tuple(int(d) % rank for d in order)  # type: ignore[arg-type]
        perm = list(range(rank))
        a, b = (int(self.argument(node, i, f"dim{i - 1}")) % rank for i in (1, 2))
        perm[a], perm[b] = b, a
        return tuple(perm)

    def float_inputs(self, node: fx.Node) -> Iterator[fx.Node]:
        """The argument nodes that carry float tensors, in order, each once."""
        return (n for n in node.all_input_nodes if self.is_float_tensor(n))
