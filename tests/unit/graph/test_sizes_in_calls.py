"""Sizes of the input as arguments: of lists that are repeated, of tensors that forward makes, and
of tensors that it does not compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage


class _Net(nn.Module):
    def __init__(self, code: Callable[[Any, Tensor], Tensor], registered: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code, self.conv = code, nn.Conv2d(3, 4, 3, padding=1)
        for name, value in (("v", torch.randn(1, 4, 1, 1)), ("t", torch.randn(1, 4, 1, 32))):
            if registered:
                self.register_buffer(name, value)
            else:
                vars(self)[name] = value

    def forward(self, x: Tensor) -> Tensor:
        return self.code(self, x)


def _x() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


FOLLOWED = {
    "a list times a size": lambda net, x: sum([net.conv(x)] * x.shape[1]),
    "a size times a list": lambda net, x: sum(x.shape[1] * [net.conv(x)]),
    "a tuple": lambda net, x: net.conv(x).view(x.shape[0], *((2,) * (x.shape[1] - 1)), 16, 16),
    "as_tensor": lambda net, x: net.conv(x) * torch.as_tensor([x.shape[3]], dtype=torch.float32),
    "expand a tensor that is no buffer": lambda net, x: (
        net.conv(x) + net.v.expand(x.shape[0], 4, 1, 1)
    ),
    "a number alone": lambda net, x: net.conv(x) * x.shape[1] * 0.5,
}


@pytest.mark.parametrize("name", FOLLOWED)
@torch.no_grad()
def test_followed(name: str) -> None:
    net = _Net(FOLLOWED[name]).eval()
    prepared = prepare(net, (_x(),), qconfig="horizon_qat")
    torch.testing.assert_close(prepared.model(_x()), net(_x()))
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    lower(prepared, (_x(),))


OF_OTHERS = {
    "roll": lambda net, x: net.conv(x) + net.t.roll(x.shape[3], 3)[..., :16],
    "split": lambda net, x: net.conv(x) + net.t.split(x.shape[3], 3)[0],
    "interpolate": lambda net, x: net.conv(x) + F.interpolate(net.t, size=x.shape[2:]),
}


@pytest.mark.parametrize("name", OF_OTHERS)
@torch.no_grad()
def test_a_size_for_a_tensor_that_is_no_buffer(name: str) -> None:
    """It is refused with a fix, and the fix works."""
    with pytest.raises(DiagnosticError) as info:
        prepare(_Net(OF_OTHERS[name]).eval(), (_x(),), qconfig="horizon_qat")
    (found,) = info.value.diagnostics
    assert found.code == "QS502" and "register_buffer" in (found.help or "") and found.span
    net = _Net(OF_OTHERS[name], registered=True).eval()
    prepared = prepare(net, (_x(),), qconfig="horizon_qat")
    torch.testing.assert_close(prepared.model(_x()), net(_x()))


@torch.no_grad()
def test_a_tensor_without_dims_keeps_its_shape() -> None:
    net = _Net(lambda net, x: net.conv(x).mean()).eval()
    prepared = prepare(net, (_x(),), qconfig="horizon_qat")
    prepared.model(_x())
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    assert prepared.model(_x()).shape == net(_x()).shape == ()
