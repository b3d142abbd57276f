"""Which sizes and numbers of a traced graph follow the batch, and which are constants."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from qatspec.graph.constants import result
from qatspec.graph.example_values import ExampleValues
from qatspec.graph.modes import eval_mode
from qatspec.graph.randomness import RandomOps
from qatspec.graph.sizes import fixed, is_plain


@dataclass(frozen=True, slots=True)
class Open:
    """A size of times * batch + plus."""

    times: Fraction = Fraction(1)
    plus: Fraction = Fraction(0)

    def __str__(self) -> str:
        product = "batch" if self.times == 1 else f"{self.times}*batch"
        sign = "+" if self.plus > 0 else ""
        return f"{product}{sign}{self.plus}" if self.plus else product


Size = int | Open


class Batch:
    """What holds for every batch in a graph that was traced with one.

    Its shapes are evaluated once more, with inputs of a batch twice as large: what differs follows
    the batch. is_open: False where that cannot be done, because the model's code holds for the
    batch of its example alone (`x.view(1, -1)`); then nothing follows it.
    """

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        self._root = root
        self._examples = _examples(root, graph)
        self._size, self._other = _at_twice_the_batch(root, graph, self._examples)
        known = (node for node in graph.nodes if "example" in node.meta)
        self.is_open = all(node in self._other for node in known)
        self._constant: tuple[dict[fx.Node, bool], ...] = ({}, {})
        self._values: tuple[dict[fx.Node, Any], ...] = ({}, {})

    def sizes(self, node: fx.Node, part: int | None = None) -> tuple[Size, ...]:
        """Sizes of a node's tensor; part: of that one of several."""
        one, other = node.meta["example"], self._other.get(node) if self.is_open else None
        if part is not None:
            one, other = one[part], None if other is None else other[part]
        if other is None:
            return tuple(one.shape)
        return tuple(map(self._sized, one.shape, other.shape))

    def is_first(self, node: fx.Node) -> bool:
        """Return whether the first dim of a node's tensor is the batch, and no other follows it."""
        first, *others = self.sizes(node) or (1,)
        return isinstance(first, Open) == self.is_open and all(isinstance(n, int) for n in others)

    def follows(self, number: fx.Node) -> bool:
        """Return whether the value of a node, which is not a tensor, changes with the batch
        size."""
        return self.is_open and self.differs(number)

    def differs(self, number: fx.Node) -> bool:
        """`follows`, also where the model's code holds for the batch of its example alone."""
        return number in self._other and bool(number.meta["example"] != self._other[number])

    def is_size(self, number: fx.Node) -> bool:
        """Return whether the value of a node is the number of images itself."""
        value = number.meta.get("example")
        return isinstance(value, int) and self._sized(value, self._other[number]) == Open()

    def computes_with_it(self, node: fx.Node) -> bool:
        """Return whether the op uses a number that follows the batch as a number, not as a size.
        Its result then has the same size for the number of another batch."""
        numbers = {n: n.meta["example"] for n in node.all_input_nodes if self._is_number(n)}
        if _states_a_size(self._root, node):
            return False
        if not numbers or not isinstance(node.meta.get("example"), Tensor):
            return False
        result = self._examples.compute(node, {**self._other, **numbers}.__getitem__)
        return bool(result) and result[0].shape == self._other[node].shape

    def _is_number(self, node: fx.Node) -> bool:
        return is_plain(node.meta.get("example")) and self.follows(node)

    def is_constant(self, node: Any, *, of_batch: bool = False) -> bool:
        """Return whether a node has the same value for all inputs of these sizes: parameters,
        buffers, numbers taken from shapes, and results that are computed from these alone.

        of_batch: the value may depend on the size of the batch, but on no number in a tensor."""
        if not isinstance(node, fx.Node):
            return False
        known = self._constant[of_batch]
        waiting = [node]
        while waiting:  # a graph may be deeper than Python's stack
            here = waiting[-1]
            if here in known:
                waiting.pop()
            elif is_plain(here.meta.get("example")):
                known[here] = of_batch or not self.follows(here)
            elif not here.op.startswith("call_"):
                known[here] = here.op == "get_attr"
            elif unknown := [n for n in here.all_input_nodes if n not in known]:
                waiting += unknown
            else:
                known[here] = all(known[n] for n in here.all_input_nodes)
        return known[node]

    def value(self, node: fx.Node, *, twice: bool = False) -> Any:
        """The present value of a node for which `is_constant` holds, for the batch of the example;
        twice: for a batch twice as large."""
        known = self._values[twice]
        if node not in known:
            if is_plain(node.meta.get("example")):
                known[node] = self._other[node] if twice else node.meta["example"]
            else:
                known[node] = result(self._root, node, partial(self.value, twice=twice))
        return known[node]

    def _sized(self, one: int, other: int) -> Size:
        if one == other:
            return one
        times = Fraction(other - one, self._size)
        return Open(times, one - times * self._size)


def _states_a_size(root: nn.Module, node: fx.Node) -> bool:
    """Whether the op compares the size that it is told with the one of its operand, and uses the
    latter: `F.max_unpool2d(x, at, 2, output_size=y.size())`."""
    target = node.target
    if node.op == "call_module":
        target = type(root.get_submodule(str(target)))
    return str(getattr(target, "__name__", target)).lower().startswith(("max_unpool", "maxunpool"))


def _unchanged(again: Any, example: Any) -> bool:
    return again is example or (is_plain(example) and bool(again == example))


def _examples(root: nn.Module, graph: fx.Graph) -> ExampleValues:
    """Compute further examples of a graph, in the mode of those that it has."""
    known = (node.meta.get("example") for node in graph.nodes)
    fakes = (example for example in known if isinstance(example, FakeTensor))
    mode = next((fake.fake_mode for fake in fakes), None)
    return ExampleValues(root, RandomOps(lambda: None), mode or FakeTensorMode())


def _at_twice_the_batch(
    root: nn.Module, graph: fx.Graph, examples: ExampleValues
) -> tuple[int, dict[fx.Node, Any]]:
    """(The batch of the graph; examples at twice that, absent where the model fails at it)."""
    values: dict[fx.Node, Any] = {}
    size = 1
    with eval_mode(root):
        for node in graph.nodes:
            example = node.meta.get("example")
            if node.op == "placeholder" and isinstance(example, Tensor) and example.ndim:
                size = int(example.shape[0])
                shape = (2 * size, *example.shape[1:])
                values[node] = examples.fake(torch.empty(shape, dtype=example.dtype))
            elif node.target is fixed:
                values[node] = node.meta["example"]  # it says nothing of other batches
            elif node.op != "output" and "example" in node.meta:
                _evaluate_again(node, values, examples)
    return size, values


def _evaluate_again(node: fx.Node, values: dict[fx.Node, Any], examples: ExampleValues) -> None:
    inputs = node.all_input_nodes
    if all(n in values and _unchanged(values[n], n.meta["example"]) for n in inputs):
        values[node] = node.meta["example"]
    elif all(n in values for n in inputs) and (
        example := examples.compute(node, values.__getitem__)
    ):
        (values[node],) = example
