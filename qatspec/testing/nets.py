"""Small nets that the checks of handlers, patterns and marches try things on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from qatspec.graph.ops import has_trait
from qatspec.graph.prepared import Prepared
from qatspec.prepare import prepare, set_stage
from qatspec.registry import registry
from qatspec.types import Example, OpTrait, QConfig, QuantHandler


class _Join(nn.Module):
    """A layer that joins the chain with the branch beside it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.function(x, beside)


#: Ops of two tensors, as chains and branches meet in models; their examples take one tensor.
_JOINS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "cat": lambda x, y: torch.cat([x, y], 1),
    "maximum": torch.maximum,
    "matmul": torch.matmul,
}


def examples(handler: QuantHandler) -> tuple[Example, ...]:
    """The examples of a handler's own ops."""
    all_examples = () if handler.examples is None else tuple(handler.examples())
    return tuple(example for example in all_examples if example.op in handler.ops)


def layer(op: str) -> nn.Module | None:
    """A layer of pictures that is `op`: a branch joined, or its handler's first example; None where
    there is none."""
    if op in _JOINS:
        return _Join(_JOINS[op])
    handler = registry().handler_for(op)
    of_handler = () if handler is None else examples(handler)
    pictures = (e for e in of_handler if e.op == op and len(e.shape) == 4)
    return next((e.build() for e in pictures), None)


def all_examples() -> tuple[Example, ...]:
    """The examples of every registered handler."""
    return tuple(e for handler in registry().quant_handlers() for e in examples(handler))


class Chain(nn.Module):
    """An input conv, then the layers; a conv beside it where one of them joins two branches.
    Batch norms have statistics that differ by channel."""

    def __init__(self, *parts: nn.Module, dims: int = 2) -> None:
        super().__init__()
        torch.manual_seed(1)
        conv = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dims]
        self.input, self.parts = conv(3, 4, 1), nn.ModuleList(parts)
        self.beside = nn.Conv2d(3, 4, 1) if any(isinstance(p, _Join) for p in parts) else None
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        beside = None if self.beside is None else self.beside(x)
        x = self.input(x)
        for part in self.parts:
            x = part(x, beside) if isinstance(part, _Join) else part(x)
        return x


def alone(example: Example) -> Chain:
    """The example behind an input conv, where it does not become part of that conv."""
    torch.manual_seed(0)
    parts, dims = [example.build()], len(example.shape) - 2
    if has_trait(example.op, OpTrait.BATCH_NORM):
        parts.insert(0, {1: nn.MaxPool1d, 2: nn.MaxPool2d, 3: nn.MaxPool3d}[dims](1))
    return Chain(*parts, dims=dims).eval()


def one_layer_nets() -> Iterator[tuple[str, Chain, tuple[int, ...]]]:
    """(op, net, shape of what its layers take): each example alone, then each op of two branches,
    which its example of one tensor shows only after a change of layout."""
    for example in all_examples():
        yield example.op, alone(example), tuple(example.shape)
    for op, function in _JOINS.items():
        yield f"{op} of two branches", Chain(_Join(function)).eval(), (2, 4, 8, 8)


def images(shape: Sequence[int] = (2, 4, 8, 8)) -> Tensor:
    """(2, 3, 8, 8), or what a chain takes whose layers take `shape`; seeded."""
    generator = torch.Generator().manual_seed(2)
    return torch.randn(shape[0], 3, *shape[2:], generator=generator)


def prepared_for_eval(
    model: nn.Module, x: Tensor | None = None, march: str | None = None
) -> Prepared:
    """The model prepared, calibrated on `x` (left out: `images`) and frozen for evaluation."""
    x = images() if x is None else x
    prepared: Prepared = prepare(model, (x,), qconfig=QConfig(), march=march)
    with torch.no_grad():
        prepared.model(x)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    return prepared
