"""Tracing with structure and shapes; what depends on numbers is told with its line."""

from __future__ import annotations

import copy
import inspect
from collections import OrderedDict

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qatspec.diag import DiagnosticError
from qatspec.graph.module import TracedModule
from qatspec.graph.trace import trace


def _image(*shape: int) -> torch.Tensor:
    return torch.randn(*(shape or (2, 3, 8, 8)), generator=torch.Generator().manual_seed(0))


def _traced(net: nn.Module, *inputs, **kwargs) -> TracedModule:
    return TracedModule(copy.deepcopy(net), trace(net, inputs, kwargs))


class Pyramid(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(3))
        self.scale = nn.Parameter(torch.zeros(()))
        self.register_buffer("mean", torch.ones(4))
        self.kept = "text"

    def forward(self, feats, extra=None, factor: int = 2):
        assert len(feats) == len(self.convs)
        outs = []
        for i, (x, conv) in enumerate(zip(feats, self.convs, strict=True)):
            y = conv(x)
            n, c, h, w = y.shape
            assert y.shape[2:] == x.shape[2:]
            if h > 4:
                y = F.max_pool2d(y, 2)
            y = F.interpolate(y, size=(h * factor, w * factor))
            y = (y - self.mean.view(1, -1, 1, 1)) * self.scale.exp()
            outs += [part + i for part in y.split(2, dim=1)]
            outs.extend(y.unbind(1))
            assert isinstance(range(y.shape[1]), range) and len(y.shape) == 4
            outs.append(y.reshape(n, c, -1))
        if extra is not None:
            outs.append(extra["bias"] + 1)
        return {"outs": outs, "count": len(outs)}


FEATS = [_image(2, 3, s, s) for s in (8, 6, 4)]


@pytest.mark.parametrize("kwargs", [{}, {"extra": {"bias": torch.ones(2)}}])
def test_structure_and_shapes_just_trace(kwargs: dict) -> None:
    net = Pyramid()
    traced = _traced(net, FEATS, **kwargs)
    expected, result = net(FEATS, **kwargs), traced(FEATS, **kwargs)
    assert result.keys() == expected.keys() and result["count"] == expected["count"]
    for a, b in zip(result["outs"], expected["outs"], strict=True):
        assert torch.equal(a, b)


def test_parameters_are_read_when_the_graph_runs() -> None:
    net = Pyramid()
    traced = _traced(net, FEATS)
    with torch.no_grad():
        traced.scale.fill_(1.0)
        traced.mean.fill_(3.0)
        net.scale.fill_(1.0)
        net.mean.fill_(3.0)
    for a, b in zip(traced(FEATS)["outs"], net(FEATS)["outs"], strict=True):
        assert torch.equal(a, b)
    traced(FEATS)["outs"][0].sum().backward()
    assert traced.scale.grad is not None


def test_other_batch_sizes_run() -> None:
    traced = _traced(Pyramid(), FEATS)
    other = [x[:1] for x in FEATS]
    assert traced(other)["outs"][0].shape[0] == 1


@pytest.mark.parametrize("style", ["args", "kwargs", "list", "nested", "ordered", "named"])
def test_input_structures(style: str) -> None:
    class Net(nn.Module):
        def forward(self, *tensors, **named):
            leaves = list(tensors) + list(named.values())
            total = 0
            while leaves:
                leaf = leaves.pop()
                if isinstance(leaf, dict):
                    leaves += list(leaf.values())
                elif isinstance(leaf, (list, tuple)):
                    leaves += list(leaf)
                else:
                    total = total + leaf
            return total

    a, b = torch.ones(2), torch.full((2,), 3.0)
    inputs = {
        "args": ((a, b), {}),
        "kwargs": ((), {"first": a, "second": b}),
        "list": (([a, b],), {}),
        "nested": (({"x": [a], "y": (b,)},), {}),
        "ordered": ((OrderedDict(x=a, y=b),), {}),
        "named": ((a,), {"rest": {"y": [b]}}),
    }[style]
    traced = _traced(Net(), *inputs[0], **inputs[1])
    assert traced(*inputs[0], **inputs[1]).tolist() == [4.0, 4.0]


def test_the_module_is_not_changed() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout())
    before = copy.deepcopy(net.state_dict())
    state = torch.get_rng_state()
    trace(net, (_image(),))
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(state, torch.get_rng_state())


class ByNumbers(nn.Module):
    def forward(self, x):
        if x.max() > 1:
            x = x / 2
        return x


class ByConversion(nn.Module):
    def forward(self, x):
        return x * int(x.sum())


class ByLoop(nn.Module):
    def forward(self, x):
        return sum(row for row in x.nonzero())


class ByNumpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy())


@pytest.mark.parametrize(
    ("net", "code", "line"),
    [
        (ByNumbers(), "QS501", "if x.max() > 1:"),
        (ByConversion(), "QS501", "return x * int(x.sum())"),
        (ByLoop(), "QS501", "return sum("),
        (ByNumpy(), "QS502", "return torch.from_numpy"),
    ],
)
def test_what_depends_on_numbers_is_told_with_its_line(
    net: nn.Module, code: str, line: str
) -> None:
    with pytest.raises(DiagnosticError) as caught:
        trace(net, (_image(),))
    found = caught.value.diagnostics[0]
    assert found.code == code and found.span is not None
    assert found.span.file == __file__
    source = inspect.getsource(inspect.getmodule(type(net))).splitlines()
    assert source[found.span.line - 1].strip().startswith(line)
    assert "wrap" in (found.help or "")


def test_an_unbound_method_is_told_how_to_spell_it() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return torch.Tensor.add(x, x)

    with pytest.raises(DiagnosticError) as caught:
        trace(Net(), (_image(),))
    found = caught.value.diagnostics[0]
    assert found.code == "QS502"
    assert "`x.add(...)` instead of `torch.Tensor.add(x, ...)`" in (found.help or "")


def decide_by_numbers(x: torch.Tensor) -> torch.Tensor:
    return x / 2 if x.max() > 1 else x


def test_wrapped_functions_are_one_node() -> None:
    class Net(nn.Module):
        def forward(self, x):
            return decide_by_numbers(x) + 1

    net = Net()
    graph = trace(net, (_image(),), wrap=(decide_by_numbers,))
    calls = [n.target for n in graph.nodes if n.op == "call_function"]
    assert calls[0] is decide_by_numbers
    x = _image()
    assert torch.equal(TracedModule(net, graph)(x), net(x))


def test_nodes_know_their_owner_source_and_example() -> None:
    net = Pyramid()
    graph = trace(net, (FEATS,))
    node = next(n for n in graph.nodes if n.target == "convs.1")
    assert node.meta["owner"] == "convs.1"
    assert node.meta["source"].endswith(
        f"test_trace.py:{inspect.getsourcelines(Pyramid.forward)[1] + 4}"
    )
    assert tuple(node.meta["example"].shape) == (2, 4, 6, 6)


class Full(nn.Module):
    """More than forward uses."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
        self.aux = nn.Linear(4, 4)
        self.register_buffer("unused", torch.ones(1))
        self.names = ["a", "b"]

    def forward(self, x):
        return self.stem(x)

    def loss(self, x):
        return self.aux(x.mean((2, 3))).sum() * self.factor

    @property
    def factor(self) -> int:
        return len(self.names)


def test_a_traced_module_keeps_what_forward_does_not_use() -> None:
    net = Full()
    traced = _traced(net, _image())
    assert list(traced.state_dict()) == list(net.state_dict())
    assert isinstance(traced.stem, nn.Sequential)
    x = _image()
    for module in (traced, copy.deepcopy(traced)):
        assert torch.equal(module.loss(module(x)), net.loss(net(x)))
        assert list(module.state_dict()) == list(net.state_dict())
        assert module.names == ["a", "b"]
        with pytest.raises(AttributeError, match="nothing"):
            module.nothing  # noqa: B018


def test_copies_are_apart() -> None:
    traced = _traced(Full(), _image())
    other = copy.deepcopy(traced)
    with torch.no_grad():
        other.stem[0].weight.zero_()
    assert traced.stem[0].weight.abs().sum() > 0
    assert other(_image()).abs().max() <= other.stem[0].bias.abs().max()


class Asking(nn.Module):
    """Asks for types, and calls an op whose first operand may be a number."""

    def forward(self, x):
        if isinstance(x, (list, tuple)):
            x = x[0]
        assert isinstance(x, torch.Tensor) and not isinstance(x, nn.Parameter)
        assert not isinstance(x.shape[0], torch.Tensor)
        return torch.pow(x, 3) if isinstance(x, torch.Tensor) else x


def test_stand_ins_of_tensors_are_tensors_to_the_model() -> None:
    graph = trace(Asking(), (_image(),))
    assert torch.pow in [n.target for n in graph.nodes]
    assert "isinstance" not in globals()


class Weighted(nn.Module):
    """A learned weight for each of several candidates, as in a search for architectures."""

    def __init__(self) -> None:
        super().__init__()
        self.candidates = nn.ModuleList(nn.Conv2d(3, 4, 1) for _ in range(3))
        self.alpha = nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        rows = torch.softmax(self.alpha, -1)
        assert len(rows) == 2
        return sum(w * m(x) for w, m in zip(rows[1], self.candidates, strict=True))


def test_a_tensor_that_no_input_reaches_is_iterated() -> None:
    net = Weighted()
    traced = _traced(net, _image())
    assert torch.equal(traced(_image(5, 3, 8, 8)), net(_image(5, 3, 8, 8)))


def test_einops_keeps_no_sizes_of_a_trace() -> None:
    """einops calls a cached function with the sizes, and the function itself where that raises
    TypeError; without the second, a size in the cache is fixed, that of the batch too."""
    code = """
import functools

def shape_of(shape, b):
    return (b, *shape[1:])

cached = functools.lru_cache(16)(shape_of)

def repeat(x, b):
    try:
        return x.expand(cached(tuple(x.shape), b))
    except TypeError:
        return x.expand(shape_of(tuple(x.shape), b))
"""
    library = {"__name__": "einops.einops"}
    exec(code, library)

    class Token(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.token = nn.Parameter(torch.randn(1, 1, 8, 8))

        def forward(self, x):
            return torch.cat([library["repeat"](self.token, x.shape[0]), x], 1)

    net = Token()
    for _ in range(2):
        traced = _traced(net, _image())
        assert torch.equal(traced(_image(5, 3, 8, 8)), net(_image(5, 3, 8, 8)))
