"""Small nets that the checks of handlers, patterns and marches try things on."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from qatspec.graph.prepared import Prepared
from qatspec.prepare import prepare, set_stage
from qatspec.registry import registry
from qatspec.types import QConfig


class _Function(nn.Module):
    """A layer that is a function of one tensor."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class _Join(nn.Module):
    """A layer that joins the chain with the branch beside it."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor, beside: Tensor) -> Tensor:
        return self.function(x, beside)


#: canonical op -> a layer that is it, on tensors (N, 4, 8, 8).
_LAYERS: dict[str, Callable[[], nn.Module]] = {
    "conv2d": lambda: nn.Conv2d(4, 4, 3, padding=1),
    "conv_transpose2d": lambda: nn.ConvTranspose2d(4, 4, 3, padding=1),
    "linear": lambda: nn.Linear(8, 8),
    "batch_norm2d": lambda: nn.BatchNorm2d(4),
    "add": lambda: _Join(torch.add),
    "sub": lambda: _Join(torch.sub),
    "mul": lambda: _Join(torch.mul),
    "div": lambda: _Function(lambda x: x / 3),
    "cat": lambda: _Join(lambda x, y: torch.cat([x, y], 1)),
    "max_pool2d": lambda: nn.MaxPool2d(2),
    "avg_pool2d": lambda: nn.AvgPool2d(2),
    "adaptive_avg_pool2d": lambda: nn.AdaptiveAvgPool2d(1),
    "interpolate": lambda: nn.Upsample(scale_factor=2),
    "maximum": lambda: _Join(torch.maximum),
    "neg": lambda: _Function(torch.neg),
    "pow": lambda: _Function(lambda x: x**2),
    "matmul": lambda: _Join(torch.matmul),
    "softmax": lambda: nn.Softmax(1),
    "group_norm": lambda: nn.GroupNorm(2, 4),
    "layer_norm": lambda: nn.LayerNorm(8),
    "dropout": nn.Dropout,
    "pad": lambda: nn.ZeroPad2d(1),
    "reshape": lambda: _Function(lambda x: x.reshape(x.shape[0], 8, 4, 8)),
    "flatten": lambda: nn.Flatten(),
    "relu": nn.ReLU,
    "relu6": nn.ReLU6,
    "hardtanh": nn.Hardtanh,
    "clamp": lambda: _Function(lambda x: torch.clamp(x, -0.5, 0.75)),
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "silu": nn.SiLU,
    "hardswish": nn.Hardswish,
    "leaky_relu": nn.LeakyReLU,
    "prelu": lambda: nn.PReLU(4),
}


#: The ops that the kit has a layer of its own for.
KNOWN = frozenset(_LAYERS)


def layer(op: str) -> nn.Module | None:
    """A layer that is `op`: the kit's own, or the `example` of the handler that answers for it."""
    torch.manual_seed(0)
    if op in _LAYERS:
        return _LAYERS[op]()
    handler = registry().handler_for(op)
    return handler.example() if handler and handler.example and op == handler.ops[0] else None


def alone(op: str) -> nn.Module | None:
    """A layer that is `op` and does not become part of the conv before it."""
    made = layer(op)
    return nn.Sequential(nn.MaxPool2d(1), made) if made and op == "batch_norm2d" else made


def layers() -> dict[str, nn.Module]:
    """The kit's own layers, batch norm aside: it runs folded only."""
    return {op: made for op in _LAYERS if op != "batch_norm2d" and (made := layer(op))}


class Chain(nn.Module):
    """An input conv, then the layers; a conv beside it where one of them joins two branches.
    Batch norms have seen something."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.input, self.parts = nn.Conv2d(3, 4, 1), nn.ModuleList(parts)
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


def images() -> Tensor:
    """(2, 3, 8, 8), seeded."""
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


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
