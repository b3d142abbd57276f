"""The example value of each node of a graph while it is traced: a fake tensor, which has a shape
and a dtype but no numbers, or a plain Python value."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import BuiltinFunctionType
from typing import Any

import torch
from torch import fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily
from torch.nn.utils import parametrize
from torch.nn.utils.parametrize import ParametrizationList, is_parametrized
from torch.utils import _pytree as pytree

from qatspec.graph.constants import evaluate
from qatspec.graph.modes import eval_mode
from qatspec.graph.ops import module_op
from qatspec.graph.randomness import RandomOps
from qatspec.graph.refusals import REFUSED
from qatspec.graph.sizes import is_plain
from qatspec.quant.fake_quant import FakeQuantize
from qatspec.quant.modules import QuantOp

#: The logger to which torch writes a traceback where an op fails; the error is reported anyway.
_FAKE_LOG = logging.getLogger(FakeTensorMode.__module__)
#: Modules whose result has the shape and the dtype of their operand.
_KEEP_SHAPE = (
    nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.SiLU, nn.Sigmoid, nn.Hardswish, nn.Hardsigmoid, nn.Identity,
)  # fmt: skip


def _keeps_shape(module: nn.Module, x: Any) -> bool:
    """Whether the result is known to have the shape and dtype of the operand."""
    if isinstance(module, FakeQuantize):
        return True
    if isinstance(module, QuantOp):  # a batch norm with a conv folded in is still a batch norm
        return False
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return x.ndim > 1 and x.shape[1] == module.num_features  # type: ignore[no-any-return]
    return type(module) in _KEEP_SHAPE


def _shape_behind(module: nn.Module, x: Any) -> tuple[int, ...] | None:
    """The shape of what a convolution or a linear layer of torch makes of `x`, from its settings
    alone; None for any other module, and where torch itself has to say what is wrong."""
    if type(module) not in (nn.Linear, nn.Conv1d, nn.Conv2d):  # a computed weight has its own class
        return None
    assert isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    if not isinstance(x, torch.Tensor) or x.dtype != module.weight.dtype:
        return None
    if isinstance(module, nn.Linear):
        fits = x.ndim > 0 and x.shape[-1] == module.in_features
        return (*x.shape[:-1], module.out_features) if fits else None
    if x.ndim != module.weight.ndim:
        return None
    padding = module.padding
    if isinstance(padding, str) or x.shape[1] != module.in_channels:
        return None
    dims = zip(
        x.shape[2:], module.kernel_size, module.stride, padding, module.dilation, strict=True
    )
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in dims]
    is_reflected = module.padding_mode != "zeros"  # it asks for more than the size
    return None if min(sizes) < 1 or is_reflected else (x.shape[0], module.out_channels, *sizes)


def _is_stored(node: fx.Node) -> bool:
    return node.op == "get_attr" or is_plain(node.meta.get("example"))


class ExampleValues:
    """Computes the examples of the nodes of one graph.

    root       the module whose graph it is.
    random     notes the random numbers that ops draw.
    fake_mode  the mode of the fake tensors, which all graphs of a module share.
    earlier    the nodes of an earlier graph of the module. Their examples are reused up to the
               first node that differs.
    is_running True while modules are run on examples, not traced.
    """

    def __init__(
        self,
        root: nn.Module,
        random: RandomOps,
        fake_mode: FakeTensorMode,
        earlier: Sequence[fx.Node] = (),
    ) -> None:
        self.root, self.random, self.is_running = root, random, False
        self._fake_mode = fake_mode
        self._earlier = list(reversed(earlier))
        self._twins: dict[fx.Node, fx.Node] = {}

    def reuse(self, node: fx.Node) -> bool:
        """Take the example of the node's twin in the earlier graph, as long as the two are alike.
        Returns whether they are."""
        twin = self._earlier.pop() if self._earlier else None
        if twin is None or (twin.op, twin.target) != (node.op, node.target):
            self._earlier = []
            return False
        mine = fx.node.map_arg((node.args, node.kwargs), lambda n: self._twins[n].name)
        theirs = fx.node.map_arg((twin.args, twin.kwargs), lambda n: n.name)
        if repr(mine) != repr(theirs):
            self._earlier = []
            return False
        self._twins[node] = twin
        if "example" in twin.meta:
            node.meta["example"] = twin.meta["example"]
        return True

    def evaluate(self, node: fx.Node) -> None:
        """Compute the node's example from those of its arguments. It has none where an argument has
        none, or where the op cannot be evaluated without numbers."""
        if any("example" not in n.meta for n in node.all_input_nodes):
            return
        if result := self.compute(node, lambda n: n.meta["example"]) or self._constant(node):
            (node.meta["example"],) = result

    def compute(self, node: fx.Node, example_of: Callable[[fx.Node], Any]) -> tuple[Any, ...]:
        """Return (the node's example for these examples of its operands,); () where there is
        none."""
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), example_of)
        disabled, _FAKE_LOG.disabled = _FAKE_LOG.disabled, True
        try:
            with self._running(), self._fake_mode, self.random, torch.no_grad():
                return (self._run(node, args, kwargs),)
        except TypeError:
            if isinstance(node.target, BuiltinFunctionType):  # real tensors would not fit it either
                raise
            return ()
        except Exception:  # noqa: BLE001 - whatever an op raises without numbers, it has no example
            return ()
        finally:
            _FAKE_LOG.disabled = disabled

    def run_on_zeros(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        """Return examples of what a module returns for tensors of zeros in the shapes of its
        arguments, which are examples themselves."""
        args, kwargs = pytree.tree_map_only(torch.Tensor, _zeros, (args, kwargs))
        with self._running(), unset_fake_temporarily(), torch.no_grad(), eval_mode(module):
            result = module(*args, **kwargs)
        return pytree.tree_map(self.fake, result)

    def fake(self, value: Any) -> Any:
        """Return the fake tensor of a tensor, and any other value as it is."""
        if isinstance(value, torch.Tensor) and not isinstance(value, FakeTensor):
            return self._fake_mode.from_tensor(value)
        return value

    @contextmanager
    def _running(self) -> Iterator[None]:
        before, self.is_running = self.is_running, True
        try:
            yield
        finally:
            self.is_running = before

    def _constant(self, node: fx.Node) -> tuple[Any, ...]:
        """The same of a function that reads the numbers of stored tensors alone, such as
        `torch.full(size, stride)` or `mask.nonzero()`; () for any other node."""
        is_call = node.op in ("call_function", "call_method")
        if not is_call or not all(map(_is_stored, node.all_input_nodes)):
            return ()
        try:
            with self._running(), unset_fake_temporarily():
                return (pytree.tree_map(self.fake, evaluate(self.root, node)),)
        except Exception:  # noqa: BLE001 - then it has no example
            return ()

    def _run(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        if node.op == "call_function":
            return node.target(*args, **kwargs)  # type: ignore[operator]
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        owner, _, name = str(node.target).rpartition(".")
        target = getattr(self.root.get_submodule(owner), name)
        if node.op == "get_attr":
            return self.fake(target)
        if isinstance(target, ParametrizationList):
            return self._fake_of(target, target)
        if _keeps_shape(target, args[0] if args else None):
            return torch.empty_like(args[0])  # not itself: equal memory means a view
        shape = _shape_behind(target, args[0]) if len(args) == 1 and not kwargs else None
        if shape is not None:
            return args[0].new_empty(shape)
        if isinstance(target, QuantOp):  # folding and quantizing the weight leave shapes alone
            weight = args[1] if len(args) > 1 else self._fake_of(target, lambda: target.weight)
            return target.geometry.apply(args[0], self.fake(weight), None)
        # Fake parameters and buffers, so that a batch norm counts its batches on a fake counter.
        state = dict(target.named_parameters()) | dict(target.named_buffers())
        fakes = {key: self.fake(tensor) for key, tensor in state.items()}
        if not is_parametrized(target):
            try:
                return torch.func.functional_call(target, fakes, args, kwargs)
            except Exception:
                if module_op(target) is None and not node.meta.get(REFUSED):
                    raise
                return self.run_on_zeros(target, args, kwargs)  # a handler knows what it computes
        with parametrize.cached():
            for name, computed in target.parametrizations.items():
                parametrize._cache[(id(target), name)] = self._fake_of(computed, computed)
            return torch.func.functional_call(target, fakes, args, kwargs)

    def _fake_of(self, owner: nn.Module, compute: Callable[[], Any]) -> Any:
        """The example of a weight that `owner` computes. Where its code reads the numbers of the
        parameters, it runs on them, in evaluation, so that it changes none of its buffers."""
        try:
            return self.fake(compute())
        except Exception:  # noqa: BLE001 - whatever code raises that finds no numbers
            with unset_fake_temporarily(), eval_mode(owner):
                return self.fake(compute())


def _zeros(example: torch.Tensor) -> torch.Tensor:
    with unset_fake_temporarily():
        return torch.zeros(example.shape, dtype=example.dtype, device=example.device)
