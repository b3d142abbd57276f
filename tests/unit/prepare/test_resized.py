"""Composite ops on pictures of another size than the example's: equal, or refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import Collector, DiagnosticError
from qatspec.prepare import prepare

X = torch.randn(2, 4, 8, 12, generator=torch.Generator().manual_seed(0))
FOLLOWS: dict[str, Callable[[Tensor], Any]] = {
    "roll": lambda x: x.roll(1, 2),
    "roll back": lambda x: x.roll(-3, 3),
    "roll by two": lambda x: torch.roll(x, (2, -1), (2, 3)),
    "roll channels": lambda x: x.roll(5, 1),
    "unbind channels": lambda x: torch.stack(x.unbind(1)[::-1], 1),
    "flip channels": lambda x: x.flip(1),
    "normalize": lambda x: F.normalize(x, dim=1),
    "glu": lambda x: F.glu(x, 1),
    "unshuffle": lambda x: x[..., ::2] + 1,
}
MAY_CHECK: dict[str, Callable[[Tensor], Any]] = {
    "flip": lambda x: x.flip(2),
    "flip both": lambda x: torch.flip(x, (2, 3)),
    "einsum": lambda x: torch.einsum("nchw,nchw->nc", x, x),
    "einsum rows": lambda x: torch.einsum("nchw,ndhw->ncd", x, x),
    "variance": lambda x: x.var((2, 3), keepdim=True) + x,
    "deviation of rows": lambda x: x.std(2),
    "variance and mean": lambda x: sum(torch.var_mean(x, (2, 3), keepdim=True)),
    "repeat interleave": lambda x: x.repeat_interleave(2, 2),
    "select": lambda x: x[:, :, [0, 7, 3]],
    "tile": lambda x: x.tile(1, 1, 2, 2),
    "unfold": lambda x: F.unfold(x, 3, padding=1),
    "prod of rows": lambda x: x[:, :, :2].prod(2),
    "rotated": lambda x: torch.rot90(x, 1, (2, 3)),
    "attention": lambda x: F.scaled_dot_product_attention(x, x, x),
    "attention backwards": lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True),
}


def _upper_half(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :, : x.shape[2] // 2] = 0
    return y


MAY_CHECK["half of the height"] = _upper_half


class Net(nn.Module):
    def __init__(self, step: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Any:
        return self.step(x * 0.5)


@pytest.mark.parametrize("name", [*FOLLOWS, *MAY_CHECK])
def test_another_size(name: str) -> None:
    net = Net({**FOLLOWS, **MAY_CHECK}[name])
    model = prepare(net, (X,), qconfig="horizon_qat").model
    torch.testing.assert_close(model(X), net(X))
    torch.testing.assert_close(model(X[:1]), net(X[:1]))
    for size in ((1, 4, 16, 14), (3, 4, 12, 8), (2, 4, 8, 24)):
        images, refused = torch.randn(size), Collector()
        with refused.collect():
            torch.testing.assert_close(model(images), net(images))
        for problem in refused.diagnostics:
            assert problem.code == "QS513" and problem.span is not None and name in MAY_CHECK


@pytest.mark.parametrize("name", ["flip", "einsum", "variance"])
def test_what_holds_for_one_size_says_so(name: str) -> None:
    """These are made of the example's positions and sizes: without a check their result would have
    another shape or other numbers, or be an error of torch."""
    model = prepare(Net(MAY_CHECK[name]), (X,), qconfig="horizon_qat").model
    with pytest.raises(DiagnosticError, match="QS513"):
        model(torch.randn(1, 4, 16, 14))
