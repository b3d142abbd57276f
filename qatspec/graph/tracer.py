"""The tracer of `graph.trace`: fx's tracer with real containers and an example value per node."""

from __future__ import annotations

import inspect
import operator
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.graph import _PyTreeInfo
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.utils import _pytree as pytree

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS501, QS502
from qatspec.graph.advice import untraceable
from qatspec.graph.arguments import (
    TreeCodeGen,
    flat_arguments,
    leaf_name,
    rebind,
    register_records,
    take_apart,
)
from qatspec.graph.constants import is_constant, of_numpy
from qatspec.graph.ends import POST_PROCESS, Ends
from qatspec.graph.example_values import ExampleValues
from qatspec.graph.gradients import NO_GRAD
from qatspec.graph.modes import entering_wrapped_functions, kept_caches, without_fast_paths
from qatspec.graph.module import TracedModule
from qatspec.graph.ops import module_op
from qatspec.graph.proxy import ExampleProxy, following_inputs
from qatspec.graph.randomness import RandomOps
from qatspec.graph.refusals import Refusals
from qatspec.graph.size_caches import answer_for_a_new_shape
from qatspec.graph.sizes import fixed, is_plain, real_type
from qatspec.graph.source import frame_span, model_frame, stable_name
from qatspec.graph.spelling import with_names_of_torch
from qatspec.graph.steps import Method
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantOp

#: Modules that are never entered, besides torch's own (fx's rule).
_LEAVES = (FakeQuantize, QuantOp, Method)
#: Modules of torch's that only call others, or one function, and are entered as a user's are.
_COMPOSITE = (
    nn.Bilinear, nn.CosineSimilarity, nn.LocalResponseNorm, nn.PairwiseDistance, nn.RMSNorm,
    nn.LPPool1d, nn.LPPool2d, nn.LPPool3d, nn.Softmax2d, nn.Softmin,
    nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip
#: use of a tensor as a Python value -> how to write it without
_INSTEAD = {
    "a condition": "compute both results and choose with `torch.where`, or decide in `__init__`",
    "an integer": "take the number from a size, or set it in `__init__`",
    "a number": "compute with the tensor itself, or set the number in `__init__`",
}
_BATCH = (
    "the first size of a tensor is the batch, which is open: write `x.shape[0]` for the size; to "
    "go through parts, take a list of tensors, or `x.unbind(dim)` along another dim"
)


def _alike(a: torch.Tensor, b: Any) -> bool:
    return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)


def _instruction(frame: FrameType | None) -> tuple[Any, ...]:
    """An identifier of the instruction of the model's code that is running."""
    return () if frame is None else (id(frame), frame.f_lasti)


def _model_span() -> Span | None:
    frame = model_frame(stop=Tracer.run.__code__)
    return frame_span(frame) if frame else None


class Tracer(fx.Tracer):
    """Traces one module, once in each mode; `trace` explains the arguments."""

    proxy_buffer_attributes = True  # a buffer is loaded from checkpoints: never bake its numbers in

    def __init__(
        self,
        inputs: Sequence[Any],
        kwargs: Mapping[str, Any],
        leaf: Sequence[type[nn.Module]],
        leaf_names: Sequence[str],
        wrap: Sequence[Callable[..., Any]],
        refusals: Refusals,
    ) -> None:
        super().__init__()
        self._wrap = wrap
        self._inputs = inputs
        self._kwargs = kwargs
        self._leaf = (*_LEAVES, *leaf)
        self._leaf_names = frozenset(leaf_names)
        self._fake_mode = FakeTensorMode(allow_non_fake_inputs=True)
        self.refusals = refusals
        self._fixed: set[tuple[fx.Node, Any]] = set()
        self._end: TracedModule | None = None  # the end of forward that is running
        self._stored: dict[int, tuple[torch.Tensor, str]] = {}  # id -> a tensor, its path
        #: id of the code of a traced module's forward -> path, and which node a line computes
        self._generated: dict[int, tuple[str, dict[int, str]]] = {}
        self.random = RandomOps(_model_span)
        self.watches_python = False

    def run(self, module: nn.Module) -> fx.Graph:
        """Return the graph of `module` in its present mode. The examples of the previous run's
        graph are reused up to the first node that differs."""
        earlier = list(self.graph.nodes) if hasattr(self, "graph") else []
        self._fixed = set()
        self.refusals.start()
        self._generated = {
            id(type(m).forward.__code__): (path, m.node_lines())
            for path, m in module.named_modules()
            if isinstance(m, TracedModule)
        }
        self._stored = {}
        self.random = RandomOps(_model_span, watches_python=self.watches_python)
        self.examples = ExampleValues(module, self.random, self._fake_mode, earlier)
        # forward may be another method of the class, chosen in `__init__`
        is_chosen = "forward" in vars(module)
        forward = getattr(module.forward, "__func__", module.forward)
        self.traced_func_name = forward.__name__ if is_chosen else "forward"
        with (
            following_inputs(module, self._wrap),
            without_fast_paths(),
            entering_wrapped_functions(),
            kept_caches(module),
            self.random,
            torch.enable_grad(),
        ):
            graph = self.trace(module)
            self.random.watch_python()
            return graph

    # -- what fx asks ---------------------------------------------------------------------------

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        if isinstance(m, self._leaf) or module_qualified_name in self._leaf_names:
            return True
        if isinstance(m, ParametrizationList):  # computes a weight from parameters
            return False
        if module_op(m) is not None:  # an op by another name: a plugin's, or a subclass of torch's
            return True
        if is_parametrized(m):  # fx asks where the class is from: that is the class before
            return bool(type(m).__mro__[1].__module__.startswith("torch.nn."))
        composite = isinstance(m, _COMPOSITE)
        return not composite and bool(super().is_leaf_module(m, module_qualified_name))

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: Any, kwargs: dict[str, Any]
    ) -> Any:
        if (
            self.examples.is_running
        ):  # fx patches nn.Module.__call__ for every module in the process
            return forward(*args, **kwargs)
        if not self._is_registered(m):  # made in forward, such as a part of an nn.Sequential
            return forward(*args, **kwargs)
        trace = partial(super().call_module, m, forward, args, kwargs)
        if not isinstance(m, Ends):
            return self.refusals.call_submodule(self, m, trace, args, kwargs)
        self._end = m.in_training if m.training else m.in_evaluation
        try:
            return trace()
        finally:
            self._end = None

    def _is_registered(self, m: nn.Module) -> bool:
        try:
            return bool(self.path_of_module(m)) or m is self.root
        except NameError:
            return False

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """The proxy of a parameter or buffer; fx would search the whole model for its name."""
        if self.examples.is_running or attr_val is None:
            return attr_val
        known, name = self._stored_tensors().get(id(attr_val), (None, ""))
        if known is not attr_val:
            return super().getattr(attr, attr_val, parameter_proxy_cache)
        if name not in parameter_proxy_cache:
            parameter_proxy_cache[name] = self.create_proxy("get_attr", name, (), {})
        return parameter_proxy_cache[name]

    def create_arg(self, a: Any) -> Any:
        if issubclass(type(a), fx.Proxy):
            return self._of_this_call(a.node)
        a = of_numpy(real_type(a))
        argument: Any = super().create_arg(self._kept(a))
        if type(a) is torch.Tensor and "example" not in argument.meta:  # made in forward
            self.examples.evaluate(argument)
        return argument

    def _stored_tensors(self) -> dict[int, tuple[torch.Tensor, str]]:
        if not self._stored:
            named = [*self.root.named_buffers(), *self.root.named_parameters()]
            # A buffer that forward assigned to in an earlier run is a proxy, and stays one.
            self._stored = {id(x): (x, name) for name, x in named if isinstance(x, torch.Tensor)}
        return self._stored

    def _of_this_call(self, node: fx.Node) -> fx.Node:
        if node.graph is not self.graph:
            raise QS502.error(
                f"forward reads a tensor that it assigned to the module in an earlier "
                f"call (`{node.name}`)",
                help="take it as an argument of forward and return the new one, or keep it "
                "outside of the prepared module",
                span=_model_span(),
            )
        return node

    def _kept(self, a: Any) -> Any:
        """The tensor that an earlier run stored for the same constant: forward creates it in each
        run, and the graphs must read the same one."""
        if type(a) is torch.Tensor and a not in self.tensor_attrs:
            for other, name in self.tensor_attrs.items():
                if name.startswith("_tensor_constant") and _alike(a, other):
                    return other
        return a

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return ExampleProxy(node, self)

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
        self.random.watch_python()
        if kind in ("call_function", "call_method"):
            kwargs = with_names_of_torch(target, kwargs)
        proxy = super().create_proxy(kind, target, args, kwargs, name, type_expr, proxy_factory_fn)
        node = proxy.node
        node.meta["owner"] = self.scope.module_path
        frame = model_frame(stop=Tracer.run.__code__)
        node.meta["source"] = stable_name(frame) if frame else ""
        node.meta["origin"] = self._running_node()
        node.meta[NO_GRAD] = not torch.is_grad_enabled()
        if self._end is not None:
            self._note_end(node, self._end)
        self._forget_checks(node, _instruction(frame))
        known = self.examples.reuse(node) and not self._has_own_code(node)
        if not known and kind not in ("placeholder", "output"):
            self.examples.evaluate(node)
        return proxy

    def to_bool(self, obj: fx.Proxy) -> bool:
        answer = answer_for_a_new_shape(obj.node, self.root)
        if answer is not None:
            return answer
        return bool(self.fixed(obj.node, bool, "a condition"))

    def iter(self, obj: fx.Proxy) -> Iterator[Any]:
        parts = range(self.length(obj.node, "iteration"))
        return iter([operator.getitem(obj, i) for i in parts])

    def length(self, node: fx.Node, use: str) -> int:
        """Return the number of parts of a node's value. The length of a list of tensors may depend
        on a size, as in `x.split(2, 1)`."""
        try:
            value = self.known(node, use)
        except DiagnosticError as refused:
            value = node.meta.get("example")
            if value is None or not value.ndim:
                raise
            if is_constant(node):  # no size of it is the batch
                return len(value)
            self.refusals.report(refused, model_frame(stop=Tracer.run.__code__))
            return len(value)
        if not is_plain(value):
            count = self.create_proxy("call_function", len, (fx.Proxy(node, self),), {})
            self.fixed(count.node, int, use)
        return len(value)

    def create_args_for_root(
        self, root_fn: Any, is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Placeholders for the leaves of the example inputs, in the structure that they have."""
        signature = inspect.signature(root_fn)
        bound = signature.bind(self.root, *self._inputs, **self._kwargs)
        names, values = flat_arguments(bound)
        leaves, spec = pytree.tree_flatten_with_path(values)
        flat = all(child.is_leaf() for child in spec.children())
        proxies: list[Any] = []
        for path, leaf in leaves:
            proxy = self.create_proxy("placeholder", leaf_name(names, path), (), {})
            is_tensor = isinstance(leaf, torch.Tensor)
            proxy.node.meta["example"] = self.examples.fake(leaf)
            proxies.append(proxy if is_tensor else leaf)

        def call(*flat_values: Any) -> Any:
            tree = pytree.tree_unflatten(list(flat_values), spec)
            again = rebind(bound, tree)
            result = root_fn(*again.args, **again.kwargs)
            has_records = register_records(result)
            result, changed = take_apart(result)
            if flat and not changed and not has_records:
                return result
            out, out_spec = pytree.tree_flatten(result)
            self.graph._codegen = TreeCodeGen(_PyTreeInfo(names, spec, out_spec))
            return out

        return call, proxies

    def _running_node(self) -> tuple[str, str] | None:
        """(path, name) of the node of a traced module whose line of generated code is running: of
        the innermost one, where several are. None where no traced module runs."""
        frame: FrameType | None = sys._getframe(2) if self._generated else None
        while frame is not None and frame.f_code is not Tracer.run.__code__:
            if generated := self._generated.get(id(frame.f_code)):
                path, lines = generated
                return (path, lines[frame.f_lineno]) if frame.f_lineno in lines else None
            frame = frame.f_back
        return None

    def _note_end(self, node: fx.Node, end: TracedModule) -> None:
        """Mark a node of the end of forward; its place is that of the node it was traced from."""
        node.meta[POST_PROCESS] = True
        name = node.meta["origin"][1] if node.meta["origin"] else ""
        for other in end.graph.nodes:
            if other.name == name:
                node.meta.update({k: other.meta.get(k, "") for k in ("owner", "source")})

    # -- values that Python asks for ----------------------------------------------------------

    def known(self, node: fx.Node, use: str) -> Any:
        """Return the example value of `node` as plain Python. Raises DiagnosticError QS501 where it
        is a tensor, whose numbers tracing does not know."""
        value = node.meta.get("example")
        if value is None or isinstance(value, torch.Tensor):
            frame = model_frame(stop=Tracer.run.__code__)
            span = frame_span(frame) if frame else None
            owner = node.meta.get("owner")
            subject = f"`{node.name}` in `{owner}`" if owner else f"`{node.name}`"
            raise QS501.error(
                f"{use} depends on the numbers in a tensor ({subject})",
                help=untraceable(_INSTEAD.get(use, _BATCH), self._class_of(self.scope.module_path)),
                span=span,
                subject=subject,
            )
        return value

    def _class_of(self, path: str | None) -> type | None:
        """The class of the submodule at a path; None for the module that is traced."""
        return type(self.root.get_submodule(path)) if path else None

    def fixed(self, node: fx.Node, kind: type | None, use: str) -> Any:
        """Return the example value where Python needs a real one of type `kind`. A node checks in
        each call of the graph that the value is the same. Reports QS501 and returns a guess where
        the value depends on the numbers in a tensor."""
        frame = model_frame(stop=Tracer.run.__code__)
        try:
            value = self.known(node, use)
        except DiagnosticError as refused:
            if kind is None:
                raise
            return self.refusals.assume(refused, kind, frame)
        value = value if kind is None else kind(value)
        if not self.examples.is_running and (node, value) not in self._fixed:
            self._fixed.add((node, value))
            source = stable_name(frame) if frame else ""
            args = (fx.Proxy(node, self), value, source)
            check = self.create_proxy("call_function", fixed, args, {}).node
            check.meta["instruction"] = _instruction(frame)
        return value

    def _forget_checks(self, node: fx.Node, instruction: Any) -> None:
        """Remove checks that torch's C code caused: it reads the integers among the arguments of a
        call, which is then recorded with the proxies, so that no value is fixed."""
        while (check := node.prev).target is fixed and check.args[0] in node.all_input_nodes:
            if check.meta["instruction"] != instruction:
                break
            self._fixed.discard((check.args[0], check.args[1]))
            self.graph.erase_node(check)

    def _has_own_code(self, node: fx.Node) -> bool:
        """Whether a node calls a module of a class that is not torch's, whose result may depend on
        the mode."""
        if node.op != "call_module":
            return False
        cls = type(self.root.get_submodule(str(node.target)))
        return not cls.__module__.startswith(("torch.", "qatspec."))
