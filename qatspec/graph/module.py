"""A traced module that keeps everything of the module it was traced from, but its forward."""

from __future__ import annotations

import ast
import copy
import inspect
from dataclasses import dataclass
from typing import Any

from torch import fx, nn
from torch.fx.graph import CodeGen

from qatspec.graph.steps import Method
from qatspec.quant.modules import rebind_hooks

#: what fx.GraphModule makes from the graph, and what __init__ is given
_MADE_ANEW = ("_graph", "_origin", "_in_spec", "_out_spec")
#: what every module keeps: parameters, buffers (and which are not in state dicts), hooks
_TABLES = frozenset(vars(nn.Module()))


class TracedModule(fx.GraphModule):
    """fx.GraphModule with the original's children, parameters, buffers and attributes.

    Plain GraphModules keep only what forward uses and lose containers, methods and the rest; here
    state dict keys and their order stay as they were (rule: constant keys), `print` shows the
    original's classes, and methods such as `loss` and `predict` go on working on the traced module.

    root: gives its tables away and must not be used afterwards. origin: the class whose methods
    answer for attributes that the module itself lacks. An attribute that is named as one of
    torch.fx is lost, except `meta`: `qatspec.prepare.preconditions` refuses methods that read one.

    copied_convs: path of a child -> path of the child that it started as a copy of.
    """

    copied_convs: dict[str, str]

    def __init__(self, root: nn.Module, graph: fx.Graph, origin: type[nn.Module] | None = None):
        super().__init__(root, graph, (origin or type(root)).__name__)
        attributes = vars(self)
        kept = (_DEFINED | vars(self).keys() | {"forward"}) - _TABLES - {"meta"}
        attributes.update({key: value for key, value in vars(root).items() if key not in kept})
        if "meta" not in vars(root) and hasattr(origin or type(root), "meta"):
            del self.meta
        rebind_hooks(self)
        self._origin = origin or type(root)
        attributes.setdefault("copied_convs", {})
        for child in self.children():
            if isinstance(child, Method):
                child.attach(self)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            origin = self.__dict__.get("_origin")
            if origin is None or name.startswith("__"):
                raise
            try:
                attribute = inspect.getattr_static(origin, name)
            except AttributeError:
                pass
            else:
                return (
                    attribute.__get__(self, origin) if hasattr(attribute, "__get__") else attribute
                )
            raise

    @property
    def code(self) -> Any:
        """The code that fx generated; in a network with a module of that name, the module."""
        for table in (self._modules, self._parameters, self._buffers):
            if "code" in table:
                return table["code"]
        if "_code" not in vars(self):
            raise AttributeError("no code has been generated")
        return self._code

    def node_lines(self) -> dict[int, str]:
        """Return which node each line of `code` computes, the code that fx generated of the graph:
        number of the line -> name of the node.

        A line holds `conv = self.conv(x);  x = None`, or `y += x;  iadd = y;  y = None`.
        """
        names_of_lines: dict[int, str] = {}
        functions = [s for s in ast.parse(self._code).body if isinstance(s, ast.FunctionDef)]
        for statement in functions[-1].body:  # `forward`, behind what declares wrapped functions
            targets = statement.targets if isinstance(statement, ast.Assign) else []
            if isinstance(statement, ast.AnnAssign):
                targets = [statement.target]
            if targets and isinstance(targets[0], ast.Name):
                names_of_lines.setdefault(statement.lineno, targets[0].id)
        return names_of_lines

    def __reduce__(self) -> tuple[Any, ...]:
        # fx pickles code and traces it again: names of nodes and their meta would be lost.
        state = {k: v for k, v in vars(self).items() if k not in _MADE_ANEW}
        return _restore, (state, _rows(self.graph), self.graph._codegen, self._origin)

    def __deepcopy__(self, memo: dict[int, Any]) -> TracedModule:
        root = nn.Module()
        # nn.Module's own deepcopy of the tables, without the graph and its compiled forward.
        state = {k: v for k, v in vars(self).items() if k not in _MADE_ANEW}
        vars(root).update(copy.deepcopy(state, memo))
        return TracedModule(root, copy.deepcopy(self.graph, memo), self._origin)


#: what an attribute of a model must not replace
_DEFINED = frozenset(dir(TracedModule)).difference(dir(nn.Module))


@dataclass(frozen=True, slots=True)
class _Ref:
    """A node among a pickled graph's arguments, by its position."""

    index: int


def _rows(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """A graph's nodes as plain data. Example values stay behind: they belong to one process."""
    position = {node: _Ref(i) for i, node in enumerate(graph.nodes)}
    rows = []
    for node in graph.nodes:
        arguments = (node.args, node.kwargs)
        args, kwargs = fx.node.map_arg(arguments, lambda n: position[n])  # type: ignore[arg-type, return-value]
        meta = {key: node.meta[key] for key in ("owner", "source") if key in node.meta}
        rows.append((node.op, node.target, args, kwargs, node.name, node.type, meta))
    return rows


def _restore(
    state: dict[str, Any], rows: list[tuple[Any, ...]], codegen: CodeGen, origin: type[nn.Module]
) -> TracedModule:
    """Undo `TracedModule.__reduce__`."""
    graph = fx.Graph()
    graph.set_codegen(codegen)
    nodes: list[fx.Node] = []
    for op, target, args, kwargs, name, type_expr, meta in rows:
        real_args, real_kwargs = fx.node.map_aggregate(
            (args, kwargs), lambda a: nodes[a.index] if isinstance(a, _Ref) else a
        )
        node = graph.create_node(op, target, real_args, real_kwargs, name, type_expr)
        node.meta.update(meta)
        nodes.append(node)
    root = nn.Module()
    vars(root).update(state)
    return TracedModule(root, graph, origin)
