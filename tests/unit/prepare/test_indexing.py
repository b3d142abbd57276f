"""Positions that buffers hold: item assignment, indices of pairs, gather and scatter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qatspec.api import DiagnosticError, prepare
from tests.forms import all_forms_agree

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))


def put(*places: Any) -> Callable[[Any, Tensor, Any], Tensor]:
    """x with values at places, which may name buffers."""

    def function(net: Any, x: Tensor, values: Any) -> Tensor:
        index = tuple(getattr(net, p) if isinstance(p, str) else p for p in places)
        x[index] = values(x, index) if callable(values) else values
        return x

    return function


ALL = slice(None)
HALF = lambda x, index: x[index] * 0.5  # noqa: E731
CASES: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a number at channels": lambda net, x: put(ALL, "two")(net, x, 0.0),
    "a tensor at channels": lambda net, x: put(ALL, "two")(net, x, HALF),
    "a tensor that is spread": lambda net, x: put(ALL, "two")(net, x, lambda x, _: x[:, :1].relu()),
    "pairs behind the batch": lambda net, x: put(ALL, "two", "rows")(net, x, HALF),
    "pairs of the last dims": lambda net, x: put(..., "rows", "columns")(net, x, 0.25),
    "rows and columns": lambda net, x: put(ALL, ALL, "apart", [[1, 5]])(net, x, HALF),
    "a slice between": lambda net, x: put(ALL, 1, slice(1, 3), "rows")(net, x, 0.5),
    "a mask of two dims": lambda net, x: put(ALL, ALL, "mask")(net, x, HALF),
    "read by pairs": lambda net, x: x[..., net.rows, net.columns],
    "read by a mask": lambda net, x: x[:, :, net.mask],
    "index_copy": lambda net, x: x.index_copy(1, net.two, x[:, :2].relu()),
    "index_fill": lambda net, x: torch.index_fill(x, 2, net.rows, -0.5),
    "gather": lambda net, x: x.gather(1, net.order.expand(x.shape[0], 3, 6, 6)),
    "gather fewer": lambda net, x: torch.gather(x, 3, net.order.expand(x.shape[0], 3, 4, 1)),
    "take_along_dim": lambda net, x: torch.take_along_dim(x, net.order, 1),
    "scatter": lambda net, x: x.scatter(1, net.order.expand(x.size(0), 3, 6, 6), x[:, :3].relu()),
    "index_add": lambda net, x: x.index_add(1, net.order[0, :, 0, 0], x[:, :3].relu(), alpha=0.5),
    "index_add to zeros": lambda net, x: x.new_zeros(x.shape[0], 4, 6, 8).index_add_(
        3, net.again, x
    ),
    "scatter_add of rows": lambda net, x: torch.scatter_add(
        x, 3, net.again.view(1, 1, 1, 6).expand(x.size(0), 4, 6, 6), x.relu()
    ),
    "scatter_add": lambda net, x: x.scatter_add(1, net.order.expand(x.size(0), 3, 6, 6), x.relu()),
    "scatter a number": lambda net, x: x.scatter(1, net.order[:, :1].expand(2, 1, 6, 6), 0.5),
}
#: Torch itself names the number of images there.
ONE_BATCH = {"scatter a number"}


class Net(nn.Module):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 3, 1)
        self.register_buffer("two", torch.tensor([0, 2]))
        self.register_buffer("again", torch.tensor([0, 3, 3, 1, 3, 0]))  # one of them never
        self.register_buffer("rows", torch.tensor([1, 4]))
        self.register_buffer("columns", torch.tensor([5, -6]))
        self.register_buffer("apart", torch.tensor([[0], [3]]))
        self.register_buffer("mask", torch.eye(6).bool())
        self.register_buffer("order", torch.tensor([3, 0, 2]).view(1, 3, 1, 1))
        self.name = name

    def forward(self, x: Tensor) -> Tensor:
        y = CASES[self.name](self, self.conv(x).sigmoid() * 2 - 1)
        return self.head(y) if y.shape[1:] == (4, 6, 6) else y


@pytest.mark.parametrize("name", [n for n in CASES if n not in ONE_BATCH])
def test_all_forms_agree(name, tmp_path) -> None:
    torch.manual_seed(1)
    all_forms_agree(Net(name), X, tmp_path, noise=0.2, steps=3.01)


def test_positions_are_those_of_the_checkpoint() -> None:
    net = Net("a number at channels")
    prepared = prepare(net, (X,), qconfig="horizon_qat", quantize_output=True)
    with torch.no_grad():
        for model in (net, prepared.model):
            model.get_buffer("two").copy_(torch.tensor([1, 3]))
        prepared.model.eval()
        net.eval()
        torch.testing.assert_close(prepared.model(X), net(X), atol=0.1, rtol=0.1)


def test_places_that_follow_the_input_are_refused() -> None:
    class Follows(Net):
        def forward(self, x: Tensor) -> Tensor:
            y = self.conv(x)
            y[:, y.mean((0, 2, 3)).topk(2).indices] = 0.0
            return self.head(y)

    from qatspec.api import lower, set_stage

    prepared = prepare(Follows(""), (X,), qconfig="horizon_qat")
    set_stage(prepared, "calibration")
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError) as refused:
        lower(prepared, (X,))
    assert refused.value.diagnostics[0].code in ("QS701", "QS702", "QS703")
