"""Which chains become one op, whatever their spelling, and why others do not."""

from __future__ import annotations

import itertools
import operator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from tests.unit.prepare.conftest import INT8, image

#: layer -> (module, its batch norm, its call, input shape)
LAYERS = {
    "conv1d": (lambda: nn.Conv1d(3, 3, 3, padding=1), nn.BatchNorm1d, F.conv1d, (2, 3, 8)),
    "conv2d": (lambda: nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d, F.conv2d, (2, 3, 6, 6)),
    "conv3d": (lambda: nn.Conv3d(3, 3, 3, padding=1), nn.BatchNorm3d, F.conv3d, (2, 3, 4, 4, 4)),
    "deconv1d": (
        lambda: nn.ConvTranspose1d(3, 3, 3, padding=1), nn.BatchNorm1d, F.conv_transpose1d,
        (2, 3, 8),
    ),
    "deconv2d": (
        lambda: nn.ConvTranspose2d(3, 3, 3, padding=1), nn.BatchNorm2d, F.conv_transpose2d,
        (2, 3, 6, 6),
    ),
    "deconv3d": (
        lambda: nn.ConvTranspose3d(3, 3, 3, padding=1), nn.BatchNorm3d, F.conv_transpose3d,
        (2, 3, 4, 4, 4),
    ),
    "linear": (lambda: nn.Linear(3, 3), nn.BatchNorm1d, F.linear, (8, 3)),
}  # fmt: skip
#: rectifier -> its spellings
RECTIFIERS = {
    "relu": [
        nn.ReLU(), nn.ReLU(inplace=True), F.relu, lambda x: F.relu(x, inplace=True), torch.relu,
        torch.relu_, F.relu_, lambda x: x.relu(), lambda x: x.relu_(), lambda x: F.relu(input=x),
    ],
    "relu6": [
        nn.ReLU6(), nn.ReLU6(inplace=True), F.relu6, lambda x: F.relu6(x, inplace=True),
    ],
    "clip": [
        lambda x: torch.clip(x, 0, 4), lambda x: torch.clamp(x, min=0.0, max=4.0),
        lambda x: x.clamp(0, 4), lambda x: x.clip(max=4, min=0), lambda x: x.clamp_(0, 4),
        lambda x: torch.clamp_(x, 0, 4), lambda x: x.clamp(min=0),
    ],
    "hardtanh": [
        nn.Hardtanh(0.0, 4.0), nn.Hardtanh(0.0, 4.0, inplace=True),
        lambda x: F.hardtanh(x, 0.0, 4.0), lambda x: F.hardtanh_(x, 0.0, 4.0),
    ],
}  # fmt: skip


def _iadd(a: Tensor, b: Tensor) -> Tensor:
    a += b
    return a


SUMS = {
    "+": lambda a, b: a + b,
    "torch.add": torch.add,
    "torch.add by name": lambda a, b: torch.add(input=a, other=b),
    "operator.add": operator.add,
    "operator.iadd": operator.iadd,
    "+=": _iadd,
    "a.add": lambda a, b: a.add(b),
    "a.add_": lambda a, b: a.add_(b),
    "reversed": lambda a, b: b + a,
}


class Chain(nn.Module):
    """layer, batch norm, sum, rectifier; calls of functions where `functional` names them."""

    def __init__(self, layer: str, norm: str | None, add, act, functional: bool = False) -> None:
        super().__init__()
        build, norm_class, self.call, _ = LAYERS[layer]
        self.layer, self.norm = build(), norm_class(3) if norm else None
        if self.norm is not None:
            with torch.no_grad():
                self.norm.weight.uniform_(-1.5, 1.5)
                self.norm.bias.uniform_(0.5, 1.0)
                self.norm.running_var.uniform_(0.5, 2.0)
        self.functional, self.functional_norm = functional, norm == "functional"
        self.act, self.add = act, add

    def forward(self, x: Tensor) -> Tensor:
        if self.functional:
            padding = {} if self.call is F.linear else {"padding": 1}
            y = self.call(x, self.layer.weight, self.layer.bias, **padding)
        else:
            y = self.layer(x)
        if self.norm is not None and self.functional_norm:
            norm = self.norm
            statistics = (norm.running_mean, norm.running_var)
            y = F.batch_norm(y, *statistics, norm.weight, norm.bias, training=self.training)
        elif self.norm is not None:
            y = self.norm(y)
        if self.add is not None:
            y = self.add(y, x)
        return y if self.act is None else self.act(y)


def _groups(model: nn.Module, *inputs: Tensor, **options) -> dict[str, tuple[str, ...]]:
    prepared = prepare(model, inputs, qconfig=INT8, **options)
    return {d.node.partition(":")[2]: d.group for d in prepared.decisions.values()}


class Side(nn.Module):
    """Chains side by side: one prepare serves them all."""

    def __init__(self, chains: list[Chain]) -> None:
        super().__init__()
        self.chains = nn.ModuleList(chains)

    def forward(self, x: Tensor) -> list[Tensor]:
        return [chain(x) for chain in self.chains]


#: how a layer is called
CALLS = list(itertools.product(LAYERS, [False, True]))
#: what follows it
TAILS = list(itertools.product([None, "module", "functional"], [False, True], [None, *RECTIFIERS]))


def _spellings(call: int, tail: int) -> tuple[int, int]:
    """Which spelling of the sum and of the rectifier has its turn."""
    _, _, act = TAILS[tail]
    turn = call + tail // (1 + len(RECTIFIERS))  # the rectifier changes fastest
    return turn % len(SUMS), turn % len(RECTIFIERS[act]) if act else 0


def _side(call: int) -> Side:
    layer, functional = CALLS[call]
    chains = []
    for tail, (norm, add, act) in enumerate(TAILS):
        summing, rectifying = _spellings(call, tail)
        summed = list(SUMS.values())[summing] if add else None
        rectifier = RECTIFIERS[act][rectifying] if act else None
        chains.append(Chain(layer, norm, summed, rectifier, functional))
    return Side(chains).eval()


@pytest.mark.parametrize("call", range(len(CALLS)), ids=lambda i: f"{CALLS[i][0]}-{CALLS[i][1]}")
def test_every_layer_norm_sum_and_rectifier_is_one_group(call: int) -> None:
    """The whole product; spellings of sum and rectifier take turns."""
    torch.manual_seed(call)
    net, x = _side(call), image(*LAYERS[CALLS[call][0]][3])
    prepared = prepare(net, (x,), qconfig=INT8)
    groups = {d.module.split(".")[1]: d.group for d in prepared.decisions.values() if d.weight}
    assert {int(chain): len(group) for chain, group in groups.items()} == {
        i: 1 + (norm is not None) + add + (act is not None)
        for i, (norm, add, act) in enumerate(TAILS)
    }
    fake_quants = [m for m in prepared.model.modules() if isinstance(m, FakeQuantize)]
    assert len(fake_quants) == 1 + 2 * len(TAILS)  # the input's, the weights', the groups'
    expected = net(x.clone())
    for found, wanted in zip(prepared.model(x.clone()), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    set_stage(prepared, "eval")
    for found, wanted in zip(prepared.model(x.clone()), expected, strict=True):
        assert 0 < (found - wanted).abs().max() < 0.05 * wanted.abs().max()


def test_every_spelling_takes_its_turn() -> None:
    summing, rectifying = set(), {act: set() for act in RECTIFIERS}
    for call, (tail, (_, add, act)) in itertools.product(range(len(CALLS)), enumerate(TAILS)):
        turns = _spellings(call, tail)
        summing |= {turns[0]} if add else set()
        if act:
            rectifying[act].add(turns[1])
    assert summing == set(range(len(SUMS)))
    assert all(len(rectifying[act]) == len(RECTIFIERS[act]) for act in RECTIFIERS)


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_with_every_sum_trains(layer: str) -> None:
    torch.manual_seed(0)
    net = Side([Chain(layer, "module", add, nn.ReLU()) for add in SUMS.values()]).eval()
    x = image(*LAYERS[layer][3])
    prepared = prepare(net, (x,), qconfig=INT8)
    groups = [d.group for d in prepared.decisions.values() if d.weight]
    assert [len(group) for group in groups] == [4] * len(SUMS)
    expected = net(x)
    for found, wanted in zip(prepared.model(x), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    set_stage(prepared, "qat")
    torch.stack(prepared.model(x)).sum().backward()
    weights = [p for name, p in prepared.model.named_parameters() if name.endswith("layer.weight")]
    assert len(weights) == len(SUMS)
    assert all(p.grad is not None and p.grad.any() for p in weights)


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
        self.norm = nn.BatchNorm2d(3)

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
    ],
)
def test_a_norm_that_is_not_folded_says_why(kind: str, words: str) -> None:
    prepared = prepare(Apart(kind), (image(),), qconfig=INT8)
    found = [w for w in prepared.warnings if w.code == "QS606"]
    assert len(found) == 1 and words in found[0].message
    assert found[0].span is not None and found[0].span.file.endswith("test_fuse.py")


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_norm_behind_two_different_convs_is_not_folded(kernel: int) -> None:
    """Not even where they are alike: the fold would hold one scale for two weights."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Conv2d(3, 3, 3, padding=1)
            self.b = nn.Conv2d(3, 3, kernel, padding=kernel // 2)
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


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.norm(self.conv(x)) + x)


@pytest.mark.parametrize(
    ("march", "groups"),
    [(None, [4]), ("bayes", [4]), ("bernoulli2", [4]), ("onnxruntime", [2, 2])],
)
def test_a_sum_is_fused_where_the_march_adds_in_the_accumulator(march, groups) -> None:
    """Elsewhere the conv's result is rounded first, by a fake-quant of its own."""
    prepared = prepare(Shortcut(), (image(),), qconfig=INT8, march=march)
    decisions = [d for d in prepared.decisions.values() if len(d.group) > 1]
    assert [len(d.group) for d in decisions] == groups
    assert all(d.activation is not None for d in decisions)
    if march == "onnxruntime":
        assert "rounds before it adds" in decisions[0].reason
