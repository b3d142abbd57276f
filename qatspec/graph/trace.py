"""Tracing with the structure of the example inputs, and with what it knows of their shapes.

Lists, tuples and dicts of tensors among the inputs are real containers while tracing, so that
`for x in feats`, `len(feats)`, `zip` and asserts on structure simply run. Beside each node goes an
example value (a fake tensor: shape and dtype, no numbers), so that shape arithmetic and asserts on
shapes run too. What depends on the numbers themselves is an error with the model's file:line.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.fx.graph import _PyTreeCodeGen, _PyTreeInfo
from torch.fx.proxy import Attribute
from torch.utils import _pytree as pytree

from qatspec.diag import Diagnostic, DiagnosticError, Span
from qatspec.graph.source import model_frame, model_span, stable_name
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantFold, QuantWeight

#: Modules that are never entered, besides torch's own (fx's rule).
_LEAVES = (FakeQuantize, QuantWeight, QuantFold)
_MEND = (
    "move the decision to `__init__`, or put this code in a function and name it in "
    "`prepare: {wrap: [...]}`, or name the module in `non_traceable_module_name`"
)


def trace(
    module: nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    leaf: Sequence[type[nn.Module]] = (),
    leaf_names: Sequence[str] = (),
    wrap: Sequence[Callable[..., Any]] = (),
) -> fx.Graph:
    """The graph of `module.forward` in the module's present mode; the module is not changed.

    example_inputs, example_kwargs: as forward takes them, trees of tensors and plain values.
    Plain values are frozen into the graph. leaf, leaf_names: modules that are not entered, by
    class and by path. wrap: functions that are recorded as one node.

    Each node carries meta["example"] (fake tensors, absent where it could not be computed),
    meta["owner"] (path of the module whose forward made it) and meta["source"] ("file:line" of
    the model's code, "" when unknown).

    Raises DiagnosticError: QS501 control flow on a tensor's numbers, QS502 other code that cannot
    be traced.
    """
    tracer = _Tracer(example_inputs, example_kwargs or {}, leaf, leaf_names, wrap)
    try:
        return tracer.trace(module)
    except DiagnosticError:
        raise
    except Exception as error:
        raise DiagnosticError(
            Diagnostic(
                code="QS502",
                message=f"`{type(module).__name__}` cannot be traced: {_first_line(error)}",
                help=_MEND,
                span=model_span(error.__traceback__),
            )
        ) from error


def is_single_op(module: nn.Module) -> bool:
    """Is it one of torch's own modules, which tracing never enters?"""
    return bool(fx.Tracer().is_leaf_module(module, ""))


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__


class _Known:
    """Python's questions that a proxy answers from its example value."""

    node: fx.Node
    tracer: Any

    def __len__(self) -> int:
        return len(self.tracer.known(self.node, "len()"))

    def __index__(self) -> int:
        return int(self.tracer.known(self.node, "an integer"))

    def __int__(self) -> int:
        return int(self.tracer.known(self.node, "an integer"))

    def __float__(self) -> float:
        return float(self.tracer.known(self.node, "a number"))


class _Proxy(_Known, fx.Proxy):
    def __getattr__(self, name: str) -> _Attribute:
        return _Attribute(self, name)


class _Attribute(_Known, Attribute):
    def __getattr__(self, name: str) -> _Attribute:
        return _Attribute(self, name)


class _Tracer(fx.Tracer):
    proxy_buffer_attributes = True  # a buffer is loaded from checkpoints: never bake its numbers in

    def __init__(
        self,
        inputs: Sequence[Any],
        kwargs: Mapping[str, Any],
        leaf: Sequence[type[nn.Module]],
        leaf_names: Sequence[str],
        wrap: Sequence[Callable[..., Any]],
    ) -> None:
        super().__init__(autowrap_functions=tuple(wrap))
        self._inputs = inputs
        self._kwargs = kwargs
        self._leaf = (*_LEAVES, *leaf)
        self._leaf_names = frozenset(leaf_names)
        self._fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self._evaluating = False

    # -- what fx asks ---------------------------------------------------------------------------

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self._leaf) or module_qualified_name in self._leaf_names:
            return True
        if isinstance(getattr(m, "canonical_op", None), str):  # a plugin's op, whole
            return True
        return bool(super().is_leaf_module(m, module_qualified_name))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if self._evaluating:  # fx patches nn.Module.__call__ for every module in the process
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if self._evaluating:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)

    def create_proxy(
        self,
        kind: str,
        target: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        name: str | None = None,
        type_expr: Any = None,
        proxy_factory_fn: Callable[[fx.Node], fx.Proxy] | None = None,
    ) -> fx.Proxy:
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        node = proxy.node
        node.meta["owner"] = self.scope.module_path
        frame = model_frame(stop=trace.__code__)
        node.meta["source"] = stable_name(frame) if frame else ""
        if kind not in ("placeholder", "output"):
            self._evaluate(node)
        return proxy

    def to_bool(self, obj: fx.Proxy) -> bool:
        return bool(self.known(obj.node, "a condition"))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        parts = range(len(self.known(obj.node, "iteration")))
        return iter([operator.getitem(obj, i) for i in parts])

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Placeholders for the leaves of the example inputs, in the structure that they have."""
        signature = inspect.signature(root_fn)
        bound = signature.bind(self.root, *self._inputs, **self._kwargs)
        names, values = _flat_arguments(bound)
        leaves, spec = pytree.tree_flatten_with_path(values)
        flat = all(child.is_leaf() for child in spec.children())
        proxies: list[Any] = []
        for path, leaf in leaves:
            proxy = self.create_proxy("placeholder", _leaf_name(names, path), (), {})
            is_tensor = isinstance(leaf, torch.Tensor)
            proxy.node.meta["example"] = self._fake(leaf)
            proxies.append(proxy if is_tensor else leaf)
        if not flat:
            self.graph._codegen = _PyTreeCodeGen(_PyTreeInfo(names, spec, None))

        def call(*flat_values: Any) -> Any:
            tree = pytree.tree_unflatten(list(flat_values), spec)
            again = _rebind(bound, tree)
            result = root_fn(*again.args, **again.kwargs)
            if flat:
                return result
            out, out_spec = pytree.tree_flatten(result)
            codegen = self.graph._codegen
            assert isinstance(codegen, _PyTreeCodeGen)
            codegen.pytree_info = codegen.pytree_info._replace(out_spec=out_spec)
            return out

        return call, proxies

    # -- example values -------------------------------------------------------------------------

    def known(self, node: fx.Node, use: str) -> Any:
        """The example value of `node` as plain Python. Raises QS501 for a tensor's numbers."""
        value = node.meta.get("example")
        if value is None or isinstance(value, torch.Tensor):
            frame = model_frame(stop=trace.__code__)
            span = Span(frame.f_code.co_filename, frame.f_lineno) if frame else None
            raise DiagnosticError(
                Diagnostic(
                    code="QS501",
                    message=f"{use} depends on the numbers in a tensor (`{node.name}`)",
                    help=_MEND,
                    span=span,
                )
            )
        return value

    def _evaluate(self, node: fx.Node) -> None:
        """Compute the node's example from those of its arguments; leave it out where one is
        missing, or where the op has no shape function."""
        if any("example" not in n.meta for n in node.all_input_nodes):
            return
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: n.meta["example"])
        self._evaluating = True
        try:
            with self._fake_mode, torch.no_grad():
                node.meta["example"] = self._run(node, args, kwargs)
        except Exception:  # noqa: BLE001 - whatever an op raises without numbers, it has no example
            return
        finally:
            self._evaluating = False

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        owner, _, name = str(node.target).rpartition(".")
        found = getattr(self.root.get_submodule(owner), name)
        if node.op == "get_attr":
            return self._fake(found)
        # Fake parameters and buffers, so that a batch norm counts its batches on a fake counter.
        state = dict(found.named_parameters()) | dict(found.named_buffers())
        fakes = {key: self._fake(tensor) for key, tensor in state.items()}
        return torch.func.functional_call(found, fakes, args, kwargs)

    def _fake(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor):
            return self._fake_mode.from_tensor(value)
        return value


def _flat_arguments(bound: inspect.BoundArguments) -> tuple[list[str], list[Any]]:
    """Names and values of the arguments given, without self; *args and **kwargs spread out."""
    names: list[str] = []
    values: list[Any] = []
    parameters = bound.signature.parameters
    for name, value in list(bound.arguments.items())[1:]:
        kind = parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{name}_{i}" for i in range(len(value))]
            values += value
        elif kind is inspect.Parameter.VAR_KEYWORD:
            names += value
            values += value.values()
        else:
            names.append(name)
            values.append(value)
    return names, values


def _leaf_name(names: Sequence[str], path: Sequence[Any]) -> str:
    """ "feats_2" for the leaf at feats[2]."""
    first, *rest = (getattr(key, "idx", getattr(key, "key", key)) for key in path)
    return "_".join([names[first], *(str(key) for key in rest)])


def _rebind(bound: inspect.BoundArguments, values: Sequence[Any]) -> inspect.BoundArguments:
    """`bound` with other values, in the order of `_flat_arguments`."""
    left = iter(values)
    arguments = dict(bound.arguments)
    for name, value in list(arguments.items())[1:]:
        kind = bound.signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_POSITIONAL:
            arguments[name] = tuple(next(left) for _ in value)
        elif kind is inspect.Parameter.VAR_KEYWORD:
            arguments[name] = {key: next(left) for key in value}
        else:
            arguments[name] = next(left)
    return inspect.BoundArguments(bound.signature, arguments)
