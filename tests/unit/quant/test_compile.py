"""Fake-quants, observers and folds are plain tensor ops: torch.compile takes each whole, and
nothing waits for the device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch._dynamo
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qatspec.quant.build import build_fake_quant
from qatspec.quant.fold import fold_batch_norm
from qatspec.quant.geometry import Geometry
from qatspec.quant.modules import quantize_module
from qatspec.types import QSpec

OBSERVERS = ("min_max", "moving_average", "percentile", "mse", "kl", "mix")
FAKE_QUANTS = ("fixed", "moving", "lsq", "pact")
X = torch.randn(4, 3, 6, 6, generator=torch.Generator().manual_seed(0))


class Fold(nn.Module):
    """A fold with the conv whose weight it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.fold = fold_batch_norm(nn.BatchNorm2d(4), Geometry.of(self.conv), _weight())

    def forward(self, x: Tensor) -> Tensor:
        return self.fold(x, self.conv.weight, self.conv.bias)


def _weight() -> nn.Module:
    return build_fake_quant(QSpec(ch_axis=0, averaging_constant=1.0), 4)


MODULES = {
    **{f"observer {name}": lambda name=name: build_fake_quant(QSpec(observer=name))
       for name in OBSERVERS},
    **{f"fake-quant {name}": lambda name=name: build_fake_quant(QSpec(fake_quant=name))
       for name in FAKE_QUANTS},
    "conv": lambda: quantize_module(nn.Conv2d(3, 4, 3), _weight()),
    "fold": Fold,
}  # fmt: skip


def _settled(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = MODULES[name]().train()
    module(X)  # a learned scale takes its first batch's
    return module


@pytest.mark.parametrize(
    ("name", "training"), [*((name, True) for name in MODULES), ("fold", False)]
)
def test_no_graph_breaks(name: str, training: bool) -> None:
    module = _settled(name).train(training)
    torch._dynamo.reset()
    found = torch._dynamo.explain(module)(X)
    assert found.graph_break_count == 0, found.break_reasons
    assert found.graph_count == 1


class Syncs(TorchDispatchMode):
    """Counts the ops that bring a number from the device to Python."""

    NAMES = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "_unique2")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.overloadpacket.__name__ in self.NAMES:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODULES)
def test_no_waiting_for_the_device(name: str) -> None:
    module = _settled(name)
    with Syncs() as syncs:
        module(X.clone().requires_grad_()).sum().backward()
    assert syncs.found == []
    with Syncs() as syncs:
        X.sum().item()
    assert syncs.found == ["aten._local_scalar_dense.default"]


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("without", [torch.no_grad, torch.inference_mode])
def test_evaluation_is_compiled_whole(name: str, without: Callable[[], Any]) -> None:
    """Without gradients, folds keep their weights from one batch to the next in eager mode."""
    module = _settled(name).eval()
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    with without():
        torch.testing.assert_close(compiled(X), module(X))


def test_compiled_is_eager() -> None:
    module = _settled("fold")
    eager = copy.deepcopy(module)
    torch._dynamo.reset()
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(X), eager(X))
    compiled(X).sum().backward()
    eager(X).sum().backward()
    for mine, theirs in zip(module.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
