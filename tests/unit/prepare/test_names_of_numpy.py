"""What torch accepts in several spellings: NumPy's names, sizes of the input in any method."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from qatspec.api import lower, prepare, set_stage
from tests.forms import all_forms_agree
from tests.layers import Op

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(5))
LOG = logging.getLogger(__name__)


def table(x: Tensor) -> Tensor:
    """A constant that is made in forward."""
    return torch.linspace(0.1, 1, 4).view(1, 4, 1, 1)


def grid(x: Tensor, indexing: str) -> Tensor:
    rows, columns = x.shape[-2:]
    axes = torch.arange(rows).float() + 0.5, (torch.arange(columns).float() + 0.5) / columns
    return torch.stack(torch.meshgrid(*axes, indexing=indexing), dim=0)[None] * 0.1


def shown(x: Tensor) -> Tensor:
    torch._assert(x.dim() == 4, f"four dims, and not {x.shape}")
    LOG.debug(f"of {x.size()} in {x.shape[0]}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.warn(f"{x.shape}", stacklevel=2)
    return x * 0.5


CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "cat of an axis": lambda x: torch.cat([x, x * 0.5], axis=1),
    "cat of the last axis": lambda x: torch.concat([x, x * 0.5], axis=-1),
    "stack of an axis": lambda x: torch.stack([x, x * 0.5], axis=2),
    "mean": lambda x: x.mean(axis=(2, 3), keepdims=True),
    "sum": lambda x: torch.sum(x, axis=1, keepdims=True),
    "max": lambda x: torch.max(x, axis=1).values,
    "amax": lambda x: x.amax(axis=(2, 3)),
    "std": lambda x: x.std(axis=1, keepdims=True),
    "squeeze": lambda x: x[:, :1].squeeze(axis=1),
    "cumsum": lambda x: torch.cumsum(x[..., :3], axis=3),
    "flip": lambda x: torch.flip(x, dims=[3]),
    "a length of two dims": lambda x: x / torch.norm(x, p=2, dim=(2, 3), keepdim=True),
    "repeat by the input's sizes": lambda x: x.mean((2, 3), keepdim=True).repeat(
        1, 1, x.size(2), x.size(3)
    ),
    "repeat of several": lambda x: x[..., :2].repeat(1, 1, 1, x.shape[2] // 2),
    "tile of the last dims": lambda x: torch.tile(x, (2,)),
    "a constant for each image": lambda x: x + table(x).repeat(x.shape[0], 1, 6, 6),
    "a constant that is expanded": lambda x: x + table(x).expand(x.shape[0], -1, 6, 6),
    "a constant in another's shape": lambda x: torch.cat([x, table(x).expand_as(x)], 1),
    "a grid": lambda x: x[:, :2] + grid(x, "ij"),
    "a grid by columns": lambda x: x[:, :2] + grid(x, "xy"),
    "a grid of a list": lambda x: (
        x[:, :2]
        + torch.stack(
            torch.meshgrid([torch.arange(6).float() * x.size(1) * 0.01] * 2, indexing="ij")
        )
    ),
    "parts of a grid": lambda x: x + torch.mul(*grid(x, "ij").unbind(1)).unsqueeze(1),
    "parts of a variance": lambda x: torch.var_mean(x, 1)[0] + torch.var_mean(x, 1)[1],
    "shapes in messages": shown,
}


@pytest.mark.parametrize("name", CASES)
def test_all_forms_agree(name, tmp_path) -> None:
    torch.manual_seed(1)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), Op(CASES[name]))
    all_forms_agree(net, X, tmp_path, noise=0.2, steps=3.01, qconfig="horizon_qat")


class Decoding(nn.Module):
    """Expectations over a softmax by a buffer of numbers, in evaluation alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 1)
        self.register_buffer("project", torch.linspace(0, 3, 4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x).flatten(2).permute(0, 2, 1)
        if self.training:
            return y
        torch._assert_async((y > -1e9).all())
        y = y.reshape(*y.shape[:2], 2, 4).softmax(-1)
        return torch.nn.functional.linear(y, self.project.type_as(y))


def test_a_buffer_that_evaluation_alone_reads() -> None:
    torch.manual_seed(1)
    net = Decoding().eval()
    prepared = prepare(net, (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    program = lower(prepared, (X,))
    with torch.no_grad():
        torch.testing.assert_close(prepared.model(X), net(X), atol=0.05, rtol=0.05)
    assert [value.shape for value in program.outputs] == [(36, 8)]
