"""Functions that move numbers, under all their names: every form agrees."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.prepare import prepare
from tests.forms import all_forms_agree
from tests.layers import Op

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
FUNCTIONS = {
    "movedim": lambda x: x.movedim(1, -1).movedim(-1, 1) + torch.movedim(x, (3, 2), (2, 3)),
    "moveaxis": lambda x: torch.moveaxis(x, 3, 1),
    "swapped": lambda x: x.swapaxes(1, 2) + torch.swapdims(x, 1, 2) + x.swapdims(1, 2),
    "adjoint": lambda x: x.adjoint(),
    "rot90": lambda x: torch.rot90(x, 1, (2, 3)) + x.rot90(3, [2, 3]).rot90(2, [2, 3]),
    "fliplr": lambda x: torch.fliplr(x),
    "select": lambda x: x.select(1, 2) + torch.select(x, 1, -1),
    "tensor_split": lambda x: torch.cat([*x.tensor_split(3, 1)[::-1], *x.tensor_split([1], 1)], 1),
    "hsplit": lambda x: torch.hsplit(x, 2)[1] + torch.dsplit(x, (2, 4))[1].mean(2, True)[:, :2],
    "stacks": lambda x: torch.hstack((x, x)) + torch.dstack((x[:, :, :3], x[:, :, 3:]))[:, :1],
    "broadcast_to": lambda x: torch.broadcast_to(x[:, :1], x.shape),
    "unflatten": lambda x: torch.unflatten(x, 1, (2, 2)).flatten(1, 2),
    "softmin": lambda x: F.softmin(x, 1),
    "diff": lambda x: torch.diff(x, dim=3) + x.diff(2, 2).mean(2, keepdim=True)[..., 1:],
    "scatters": lambda x: x.slice_scatter(x[:, :1] * 2, 1, 0, 1).select_scatter(x[:, 0], 1, 3),
    "a slice of parts": lambda x: torch.cat(x.split(1, 1)[2:0:-1], 1),
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, tmp_path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Op(FUNCTIONS[name]))
    all_forms_agree(net, X, tmp_path, noise=0.3, steps=2.01, qconfig="horizon_qat")


def test_a_forward_that_a_class_is_given_later(monkeypatch) -> None:
    class Net(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    monkeypatch.setattr(Net, "forward", lambda self, x: x * 2)
    assert torch.equal(prepare(Net(), (X,), qconfig="horizon_qat").model(X), 2 * X)
