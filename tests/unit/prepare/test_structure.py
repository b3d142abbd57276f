"""What models are made of besides chains of modules: trees of tensors, shapes, names for one thing,
graphs inside graphs. Each net in float mode equals the prepared one, in both modes of training."""

from __future__ import annotations

import copy
import pickle
from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from qatspec.ir.ports import unflatten
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from tests.unit.prepare.conftest import INT8, image


class Trees(nn.Module):
    """Dicts, lists and tuples in and out; len, iteration, zip and asserts on structure."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleDict({"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1)})

    def forward(self, maps: dict[str, Tensor], rest: list[Tensor]) -> dict[str, object]:
        assert set(maps) == set(self.convs) and len(rest) == 2
        found = {key: self.convs[key](x).relu() for key, x in maps.items()}
        pairs = tuple(y + x.mean() for y, x in zip(found.values(), rest, strict=True))
        return {"found": found, "pairs": pairs, "last": [pairs[-1]] if len(pairs) > 1 else []}


class Shapes(nn.Module):
    """x.shape arithmetic, asserts and branches on it, reshapes by it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        assert c == 3 and h % 2 == 0
        y = self.conv(x)
        if y.size(2) > 4:
            y = F.interpolate(y, size=(h // 2, w * 2 // 2))
        return y.reshape(n, -1, y.shape[-1] // 2)


class Often(nn.Module):
    """One block called again and again; one conv output into two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(3):
            x = self.block(x)
        y = self.block[0](x)
        return self.norms[0](y) + self.norms[1](y)


class InPlace(nn.Module):
    """Names of one tensor, changed through another of them."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.norm = nn.BatchNorm2d(3)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.conv(x))
        kept = y
        y += x
        self.relu(y)
        return kept * 0.5


class Graphs(nn.Module):
    """GraphModules inside, one of them twice removed."""

    def __init__(self) -> None:
        super().__init__()
        inner = fx.symbolic_trace(nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()))
        self.outer = fx.symbolic_trace(nn.Sequential(inner, nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))

    def forward(self, x: Tensor) -> Tensor:
        return self.outer(x) + x


def _inputs(net: nn.Module) -> tuple:
    x = image()
    return ({"a": x, "b": x * 2}, [x, x + 1]) if isinstance(net, Trees) else (x,)


def _leaves(net: nn.Module) -> list[Tensor]:
    return torch.utils._pytree.tree_leaves(net(*copy.deepcopy(_inputs(net))))


def _switch(model: nn.Module, on: bool) -> None:
    for module in model.modules():
        if isinstance(module, FakeQuantize):
            module.enable_fake_quant(on)


#: net -> fake-quants of activations
NETS = {Trees: 10, Shapes: 2, Often: 6, InPlace: 3, Graphs: 3}


@pytest.mark.parametrize("cls", NETS)
def test_the_prepared_net_is_the_float_net(cls: type[nn.Module]) -> None:
    torch.manual_seed(0)
    net = cls()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            nn.init.uniform_(norm.running_var, 0.5, 2.0)
            nn.init.uniform_(norm.weight, 0.5, 1.5)
    net.eval()
    expected = _leaves(net)
    prepared = prepare(net, _inputs(net), qconfig=INT8)
    assert prepared.warnings == ()
    model = prepared.model
    names = [n for n, m in model.named_modules() if isinstance(m, FakeQuantize)]
    assert len([n for n in names if "weight_fake_quant" not in n]) == NETS[cls]
    structure = torch.utils._pytree.tree_structure
    assert structure(model(*_inputs(net))) == structure(net(*copy.deepcopy(_inputs(net))))

    def results() -> list[Tensor]:
        return torch.utils._pytree.tree_leaves(model(*copy.deepcopy(_inputs(net))))

    for mine, theirs in zip(results(), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    set_stage(prepared, "eval")
    for mine, theirs in zip(results(), expected, strict=True):
        assert 0 < (mine - theirs).abs().max() < 0.06 * theirs.abs().max() + 0.02
    set_stage(prepared, "qat")
    net.train()
    _switch(model, on=False)
    for mine, theirs in zip(results(), _leaves(net), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)
    _switch(model, on=True)
    sum(t.square().sum() for t in results()).backward()
    assert all(p.grad is not None for p in model.parameters())


class Pair(NamedTuple):
    near: torch.Tensor
    far: torch.Tensor


class Unusual(nn.Module):
    """Parts of a Sequential, modules made in forward, torch.is_tensor, a named tuple as result."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1))
        self.head = nn.Conv2d(4, 2, 1)

    def forward(self, x):
        y = nn.ZeroPad2d(1)(self.stem[:2](x))
        y = self.stem[2](y) if torch.is_tensor(y) else None
        return Pair(near=self.head(y), far=y)


def test_parts_made_in_forward_and_named_results():
    x, net = torch.randn(2, 3, 8, 8), Unusual().eval()
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    found, wanted = prepared.model(x), net(x)
    assert type(found) is Pair
    torch.testing.assert_close(found.far, wanted.far)
    assert "stem.0.weight" in prepared.model.state_dict()
    program = lower(prepared, (x,))
    named = unflatten(program.tree, ("first", "second"))
    assert named._asdict() == {"near": "first", "far": "second"} and len(program.outputs) == 2
    again = pickle.loads(pickle.dumps(prepared.model))
    assert type(again(x)) is Pair


class Codebook(nn.Module):
    """A network with a module of a name that torch.fx uses."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.code = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.code(self.first(x))


def test_a_module_may_be_called_code() -> None:
    net, x = Codebook().eval(), torch.randn(2, 3, 8, 8)
    prepared = prepare(net, (x,), qconfig="horizon_qat")
    torch.testing.assert_close(prepared.model(x), net(x), atol=0.1, rtol=0)
    assert set(net.state_dict()) <= set(prepared.model.state_dict())
    set_stage(prepared, "eval")
    again = copy.deepcopy(prepared.model)
    torch.testing.assert_close(again(x), prepared.model(x))
    assert isinstance(again.code, nn.Module)
