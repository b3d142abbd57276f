"""Which chains become one op, whatever their spelling, and why others do not."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from tests.unit.prepare.conftest import INT8, image

LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 3, 3, padding=1), nn.BatchNorm1d, (2, 3, 8)),
    "conv2d": (lambda: nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d, (2, 3, 8, 8)),
    "conv3d": (lambda: nn.Conv3d(3, 3, 3, padding=1), nn.BatchNorm3d, (2, 3, 4, 4, 4)),
    "conv_transpose2d": (
        lambda: nn.ConvTranspose2d(3, 3, 3, padding=1),
        nn.BatchNorm2d,
        (2, 3, 8, 8),
    ),
    "linear": (lambda: nn.Linear(3, 3), nn.BatchNorm1d, (8, 3)),
}
RECTIFIERS = {
    "relu module": nn.ReLU(inplace=True),
    "F.relu": F.relu,
    "torch.relu": torch.relu,
    "x.relu": lambda x: x.relu(),
    "relu6 module": nn.ReLU6(),
    "F.relu6": F.relu6,
    "hardtanh": nn.Hardtanh(0.0, 4.0),
    "clip": lambda x: torch.clip(x, 0, 6),
    "clamp": lambda x: x.clamp(min=0),
}
SUMS = {
    "+": lambda a, b: a + b,
    "torch.add": torch.add,
    "a.add": lambda a, b: a.add(b),
    "reversed": lambda a, b: b + a,
}


class Chain(nn.Module):
    def __init__(self, layer: str, norm: bool, add, act) -> None:
        super().__init__()
        build, norm_class, _ = LAYERS[layer]
        self.layer = build()
        self.norm = norm_class(3) if norm else None
        self.act = act
        self.add = add

    def forward(self, x: Tensor) -> Tensor:
        y = self.layer(x)
        if self.norm is not None:
            y = self.norm(y)
        if self.add is not None:
            y = self.add(y, x)
        return y if self.act is None else self.act(y)


def _groups(model: nn.Module, *inputs: Tensor, **options) -> dict[str, tuple[str, ...]]:
    prepared = prepare(model, inputs, qconfig=INT8, **options)
    return {d.node.partition(":")[2]: d.group for d in prepared.decisions.values()}


@pytest.mark.parametrize("act", [None, *RECTIFIERS])
@pytest.mark.parametrize("add", [None, "+"])
@pytest.mark.parametrize("norm", [False, True])
def test_conv_norm_add_rectifier(norm: bool, add: str | None, act: str | None) -> None:
    net = Chain("conv2d", norm, SUMS.get(add), RECTIFIERS.get(act))
    groups = _groups(net, image())
    assert len(groups["layer"]) == 1 + norm + (add is not None) + (act is not None)
    assert len(groups) == 2  # the input and the group


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("add", SUMS)
def test_every_layer_with_everything(layer: str, add: str) -> None:
    torch.manual_seed(0)
    net = Chain(layer, True, SUMS[add], nn.ReLU()).eval()
    x = image(*LAYERS[layer][2])
    prepared = prepare(net, (x,), qconfig=INT8)
    assert len(prepared.decisions[":layer"].group) == 4
    torch.testing.assert_close(prepared.model(x), net(x), rtol=1e-4, atol=1e-5)
    set_stage(prepared, "eval")
    error = (prepared.model(x) - net(x)).abs().max()
    assert 0 < error < 0.05 * net(x).abs().max()
    set_stage(prepared, "qat")
    prepared.model(x).sum().backward()


class TwoNorms(nn.Module):
    """One conv output into two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(2))
        with torch.no_grad():
            self.norms[1].weight.fill_(7.0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        return torch.cat([norm(y).relu() for norm in self.norms], 1)


def test_one_output_into_two_norms_folds_both() -> None:
    net = TwoNorms().eval()
    x = image()
    prepared = prepare(net, (x,), qconfig=INT8)
    assert sorted(len(d.group) for d in prepared.decisions.values()) == [1, 1, 3, 3]
    assert prepared.warnings == ()
    torch.testing.assert_close(prepared.model(x), net(x), rtol=1e-4, atol=1e-5)


class Residual(nn.Module):
    def __init__(self, down: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 3, 3, padding=1)
        self.conv2 = nn.Conv2d(3, 3, 3, padding=1)
        self.down = nn.Conv2d(3, 3, 1) if down else None

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x).relu())
        return (y + (x if self.down is None else self.down(x))).relu()


def test_a_residual_joins_the_conv_that_is_computed_last() -> None:
    assert len(_groups(Residual(False), image())["conv2"]) == 3
    groups = _groups(Residual(True), image())
    assert len(groups["conv2"]) == 1 and len(groups["down"]) == 3
    prepared = prepare(Residual(True), (image(),), qconfig=INT8)
    assert "computed later" in prepared.decisions[":conv2"].reason


class Apart(nn.Module):
    """A batch norm with something between it and the conv."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3, track_running_stats=kind != "no statistics")

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "first":
            return self.conv(self.norm(x))
        y = self.conv(x)
        if self.kind == "after add":
            return self.norm(y + x)
        if self.kind == "used elsewhere":
            return self.norm(y) + y
        return self.norm(y)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("first", "nothing stands before it"),
        ("after add", "it stands behind `add`"),
        ("used elsewhere", "is used elsewhere too"),
        ("no statistics", "keeps no running statistics"),
    ],
)
def test_a_norm_that_is_not_folded_says_why(kind: str, words: str) -> None:
    prepared = prepare(Apart(kind), (image(),), qconfig=INT8)
    found = [w for w in prepared.warnings if w.code == "QS606"]
    assert len(found) == 1 and words in found[0].message
    assert "test_fuse.py" in (found[0].help or "")


def test_a_norm_behind_two_different_convs_is_not_folded() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = nn.Conv2d(3, 3, 1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.a(x)) + self.norm(self.b(x))

    prepared = prepare(Net(), (image(),), qconfig=INT8)
    assert {w.code for w in prepared.warnings} == {"QS606"}
    x = image()
    net = Net().eval()
    again = prepare(net, (x,), qconfig=INT8)
    torch.testing.assert_close(again.model(x), net(x))


def test_a_conv_and_norm_called_again_and_again_fold_once() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: Tensor) -> Tensor:
            for _ in range(3):
                x = self.norm(self.conv(x)).relu()
            return x

    net = Net().eval()
    prepared = prepare(net, (image(),), qconfig=INT8)
    assert sum(len(d.group) == 3 for d in prepared.decisions.values()) == 3
    torch.testing.assert_close(prepared.model(image()), net(image()), rtol=1e-4, atol=1e-5)


def test_identities_do_not_keep_chains_apart() -> None:
    net = nn.Sequential(
        nn.Conv2d(3, 3, 1), nn.Identity(), nn.BatchNorm2d(3), nn.Identity(), nn.ReLU()
    )
    assert len(_groups(net, image())["_0"]) == 3
