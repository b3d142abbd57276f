"""F.grid_sample at positions that no image changes: equal to torch's, and in integers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from tests.forms import all_forms_agree

X = torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
THETA = {
    "identity": [[1.0, 0, 0], [0, 1, 0]],
    "turned": [[0.8, 0.3, 0.1], [-0.3, 0.9, -0.2]],
    "far outside": [[1.0, 0, 5], [0, 1, 5]],
    "mirrored": [[-1.0, 0, 0], [0, -1, 0.5]],
}


class Warp(nn.Module):
    """A convolution, sampled at positions of a buffer."""

    def __init__(self, theta: str, size: tuple[int, int], spread: str, **settings: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.spread, self.settings = nn.Conv2d(3, 4, 1), spread, settings
        matrix = torch.tensor([THETA[theta]])
        corners = settings.get("align_corners", False)
        grid = F.affine_grid(matrix, [1, 4, *size], align_corners=corners)
        self.register_buffer("grid", grid)
        self.register_buffer("theta", matrix)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if self.spread == "expand":
            grid = self.grid.expand(x.shape[0], -1, -1, -1)
        elif self.spread == "repeat":
            grid = self.grid.repeat(x.size(0), 1, 1, 1)
        else:  # made in forward
            theta = self.theta.expand(x.shape[0], -1, -1)
            corners = self.settings.get("align_corners", False)
            grid = F.affine_grid(theta, [x.shape[0], 4, *self.size], align_corners=corners)
        return F.grid_sample(x, grid, **self.settings)


#: How the grid is spread over the batch, and its size: each with some of the cases.
SPREAD = (("expand", (7, 9)), ("repeat", (5, 4)), ("in forward", (12, 3)))
CASES = list(product(THETA, ("bilinear", "nearest"), ("zeros", "border"), (False, True)))


@pytest.mark.parametrize(("theta", "mode", "padding", "corners"), CASES)
def test_as_torch_samples(theta: str, mode: str, padding: str, corners: bool) -> None:
    settings = {"mode": mode, "padding_mode": padding, "align_corners": corners}
    spread, size = SPREAD[CASES.index((theta, mode, padding, corners)) % 3]
    net = Warp(theta, size, spread, **settings)
    prepared = prepare(net, (X,), qconfig="horizon_qat")
    for images in (X, X[:1]):
        torch.testing.assert_close(prepared.model(images), net(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_all_forms(mode: str, tmp_path: Path) -> None:
    net = Warp("turned", (5, 6), "expand", mode=mode, align_corners=False)
    all_forms_agree(net, X, tmp_path, noise=0.05, steps=3.01)


#: Grids that images or their order change, and modes without a form.
REFUSED: dict[str, Callable[[Tensor], Tensor]] = {
    "computed": lambda x: F.grid_sample(x, x.movedim(1, 3)[..., :2].tanh(), align_corners=False),
    "of each image": lambda x: F.grid_sample(
        x, torch.arange(2.0).view(2, 1, 1, 1).expand(2, 3, 3, 2), align_corners=False
    ),
    "bicubic": lambda x: F.grid_sample(
        x, torch.zeros(1, 3, 3, 2).expand(x.shape[0], -1, -1, -1), "bicubic", align_corners=False
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_form_is_refused(name: str) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return REFUSED[name](self.conv(x))

    prepared = prepare(Net(), (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError, match="QS701"):
        lower(prepared, (X,))
