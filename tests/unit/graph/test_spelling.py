"""Keywords and in-place ops: one graph, whatever the model's author wrote."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qatspec.diag import DiagnosticError
from qatspec.graph.trace import trace


class Net(nn.Module):
    def __init__(self, body) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)
        self.weight = nn.Parameter(torch.ones(3, 3, 1, 1))
        self.bias = nn.Parameter(torch.ones(3))
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(self, x)


X = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))


def _ran(net: nn.Module, graph: fx.Graph) -> Tensor:
    module = fx.GraphModule(net, graph)
    module.graph.eliminate_dead_code()
    module.recompile()
    return module(X.clone())


@pytest.mark.parametrize(
    ("operands", "body"),
    [
        (1, lambda m, x: F.relu(input=x)),
        (1, lambda m, x: m.conv(input=x)),
        (2, lambda m, x: torch.add(input=x, other=x.exp())),
        (2, lambda m, x: x.sub(other=x.exp(), alpha=2)),
        (1, lambda m, x: torch.cat(tensors=[x, x], dim=1)),
        (3, lambda m, x: F.conv2d(x, bias=m.bias, weight=m.weight, padding=1)),
        (2, lambda m, x: F.linear(input=x, weight=m.weight.flatten().expand(5, 9)[:, :4])),
        (1, lambda m, x: F.interpolate(input=x, scale_factor=2)),
        (1, lambda m, x: torch.mean(input=x, dim=(2, 3))),
        (2, lambda m, x: F.max_pool2d(input=x, kernel_size=2)),
    ],
)
def test_operands_stand_in_their_positions(operands: int, body) -> None:
    net = Net(body)
    graph = trace(net, (X,))
    node = next(n for n in reversed(graph.nodes) if n.op.startswith("call_"))
    assert len(node.args) == operands
    assert not any(isinstance(v, fx.Node) for v in node.kwargs.values())
    torch.testing.assert_close(_ran(net, graph), net(X.clone()))


def _alias(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    other = y
    y += x
    return other * 2


def _dropped_result(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    m.relu(y)
    F.hardtanh(y, 0.0, 0.5, True)
    return y


def _method(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y.mul_(3).clamp_(-1, 1)
    return y


def _before_and_after(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    before = y.exp()
    F.relu(y, inplace=True)
    return before + y


def _shapes(m: Net, x: Tensor) -> Tensor:
    size = x.shape[2]
    doubled = size
    doubled *= 2
    return F.interpolate(x, size=(size, doubled))


@pytest.mark.parametrize("body", [_alias, _dropped_result, _method, _before_and_after, _shapes])
def test_ops_in_place_change_what_comes_later(body) -> None:
    net = Net(body)
    graph = trace(net, (X,))
    torch.testing.assert_close(_ran(net, graph), net(X.clone()))


def _view(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    y.flatten(1).mul_(2)
    return y


def _part(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    first, _ = y.chunk(2, 2)
    first += 1
    return y


@pytest.mark.parametrize("body", [_view, _part])
def test_a_change_through_a_view_is_refused(body) -> None:
    with pytest.raises(DiagnosticError, match="and with it `conv`") as caught:
        trace(Net(body), (X,))
    assert caught.value.diagnostics[0].code == "QS502"


def _slice_before(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    part = y[:, :, 1:]
    y += 1
    return part + y[:, :, :-1]


def _slice_of_parts(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    parts = y.chunk(2, 2)
    y.mul_(2)
    return parts[0] + parts[1]


@pytest.mark.parametrize("body", [_slice_before, _slice_of_parts])
def test_a_view_that_changes_with_its_tensor_is_refused(body) -> None:
    with pytest.raises(DiagnosticError, match="lies in the same memory") as caught:
        trace(Net(body), (X,))
    assert caught.value.diagnostics[0].code == "QS502"


def _parts(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    first, second = y[:, :, :2], y[:, :, 2:]
    first += 1
    return torch.cat([first, second], 2)


def _behind_a_function(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = nn.functional.relu(y)
    z += 1
    return y + z


def _behind_a_module(m: Net, x: Tensor) -> Tensor:
    y = m.conv(x)
    z = m.plain(y)
    z += 1
    return y + z


@pytest.mark.parametrize("body", [_parts, _behind_a_function, _behind_a_module])
def test_a_change_that_nobody_else_sees_is_taken(body) -> None:
    net = Net(body)
    net.plain = nn.ReLU()
    graph = trace(net, (X,))
    torch.testing.assert_close(_ran(net, graph), net(X.clone()))
