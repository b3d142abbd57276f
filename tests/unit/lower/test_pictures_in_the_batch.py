"""Ops on pictures whose batch is merged with frames, windows or heads: all forms agree."""

from __future__ import annotations

import random

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.api import DiagnosticError, lower, prepare, set_stage
from tests.forms import all_forms_agree

X = torch.randn(2, 6, 8, 8, generator=torch.Generator().manual_seed(4))


class Apart(nn.Module):
    """Takes an input apart into pictures of `channels` channels, in a way, and puts the results
    together again."""

    def __init__(self, inside: nn.Module, way: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(6, 8, 3, padding=1)
        self.inside, self.way = inside, way

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        if self.way == "frames":  # channels are two frames of four
            return self.inside(x.reshape(n * 2, 4, h, w)).unflatten(0, (n, 2))
        if self.way == "windows":
            x = x.reshape(n, c, 2, h // 2, 2, w // 2).permute(0, 2, 4, 1, 3, 5)
            return self.inside(x.reshape(n * 4, c, h // 2, w // 2)[:, :4]).unflatten(0, (n, 4))
        heads = x.flatten(2).transpose(1, 2).reshape(n, h * w, 2, 4).transpose(1, 2)
        pictures = heads.reshape(n * 2, h, w, 4).permute(0, 3, 1, 2)
        return self.inside(pictures).reshape(n, 2, -1)


class Norm(nn.BatchNorm2d):
    """A norm of numbers alone, of pixels in a row."""

    def __init__(self) -> None:
        super().__init__(4)
        with torch.no_grad():
            self.weight.copy_(torch.tensor([0.5, -1.0, 2.0, 1.0]))
            self.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.flatten(2)
        y = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias)
        return y.unflatten(2, x.shape[2:])


OPS = {
    "conv": lambda: nn.Conv2d(4, 3, 3, padding=1),
    "conv with norm": lambda: nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU()),
    "norm alone": lambda: nn.Sequential(nn.ReLU(), nn.BatchNorm2d(4)),
    "norm as a function": lambda: Norm(),
    "depthwise conv": lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False),
    "depthwise conv with norm": lambda: nn.Sequential(
        nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.ReLU()
    ),
    "padded by its own": lambda: nn.Conv2d(4, 2, 3, padding=1, padding_mode="reflect"),
    "transposed conv": lambda: nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2),
    "max_pool": lambda: nn.MaxPool2d(2),
    "avg_pool": lambda: nn.AvgPool2d(3, 2, 1, count_include_pad=False),
    "adaptive average": lambda: nn.AdaptiveAvgPool2d(3),
    "adaptive maximum": lambda: nn.AdaptiveMaxPool2d((3, 2)),
    "global average": lambda: nn.AdaptiveAvgPool2d(1),
    "nearest": lambda: nn.Upsample(scale_factor=2),
    "bilinear": lambda: nn.Upsample(scale_factor=2, mode="bilinear"),
    "bicubic": lambda: nn.Upsample(scale_factor=2, mode="bicubic"),
    "pad": lambda: nn.ZeroPad2d((1, 0, 2, -1)),
    "reflection": lambda: nn.ReflectionPad2d(1),
}
WAYS = ("frames", "windows", "heads")


def agree(net: nn.Module, tmp_path) -> None:
    all_forms_agree(net.eval(), X, tmp_path, noise=0.1, steps=2.01)


@pytest.mark.parametrize(("name", "way"), [(name, WAYS[i % 3]) for i, name in enumerate(OPS)])
def test_all_forms_agree(name, way, tmp_path):
    torch.manual_seed(0)
    agree(Apart(OPS[name](), way), tmp_path)


@pytest.mark.parametrize(
    "inside",
    [
        lambda: nn.Conv1d(4, 6, 3, padding=1),
        lambda: nn.MaxPool1d(2),
        lambda: nn.AvgPool1d(3, padding=1),
        lambda: nn.AdaptiveAvgPool1d(5),
        lambda: nn.ConvTranspose1d(4, 2, 2, stride=2),
        lambda: nn.Upsample(scale_factor=2, mode="linear"),
    ],
)
def test_rows(inside, tmp_path):
    class Rows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.inside = nn.Conv2d(6, 4, 1), inside()

        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x).permute(0, 2, 1, 3)
            return self.inside(x.flatten(0, 1)).unflatten(0, (-1, 8))

    torch.manual_seed(0)
    agree(Rows(), tmp_path)


@pytest.mark.parametrize(
    "inside",
    [
        lambda: nn.Conv3d(4, 2, (2, 3, 3), padding=(0, 1, 1)),
        lambda: nn.MaxPool3d(2),
        lambda: nn.AvgPool3d((1, 2, 2)),
    ],
)
def test_volumes(inside, tmp_path):
    class Volumes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.inside = nn.Conv2d(6, 16, 1), inside()

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(self.conv(x).reshape(-1, 4, 2, 8, 8)).unflatten(0, (-1, 2))

    torch.manual_seed(0)
    agree(Volumes(), tmp_path)


@pytest.mark.parametrize("seed", range(6))
def test_chains(seed, tmp_path):
    """Several ops in a row on merged pictures."""
    draw = random.Random(seed)
    keeps = [
        "depthwise conv with norm",
        "max_pool",
        "avg_pool",
        "nearest",
        "bilinear",
        "pad",
        "reflection",
    ]
    chosen = [OPS[draw.choice(keeps)]() for _ in range(draw.randint(2, 3))]
    torch.manual_seed(seed)
    net = Apart(nn.Sequential(*chosen, nn.Conv2d(4, 3, 1)), draw.choice(WAYS))
    all_forms_agree(net.eval(), X, tmp_path, noise=0.15, steps=4.01)


def test_pads_of_rows_and_shifts_of_relative_positions(tmp_path):
    """The pads by which relative positions become absolute ones, as in HaloNet."""

    class Relative(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 15)

        def forward(self, x: Tensor) -> Tensor:
            n, c, h, _ = x.shape
            y = self.linear(x).reshape(-1, h, 15)
            y = F.pad(F.pad(y, [0, 1]).flatten(1), [0, 7]).reshape(-1, h + 1, 15)
            return y[:, :h, 7:].reshape(n, c, h, h)

    torch.manual_seed(0)
    agree(Relative(), tmp_path)


def test_pictures_behind_a_batch_that_is_not_in_front_are_refused():
    class Second(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.inside = nn.Conv2d(6, 4, 1), nn.Conv2d(2, 2, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.inside(self.conv(x).transpose(0, 1)).transpose(0, 1)

    prepared = prepare(Second().eval(), (X,), qconfig="horizon_qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    with pytest.raises(DiagnosticError, match=r"the batch of `.*` is not in front") as refused:
        lower(prepared, (X,))
    assert "permute or reshape it to (batch, channels, ...)" in refused.value.diagnostics[0].help
