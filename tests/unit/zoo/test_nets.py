"""What holds for every net of the zoo."""

from __future__ import annotations

import hashlib

import pytest
import torch
from torch import fx, nn
from torch.utils._pytree import tree_leaves

from qatspec.graph import Prepared
from qatspec.graph.context import GraphContext
from qatspec.prepare import prepare, set_stage
from qatspec.quant.fake_quant import FakeQuantize
from tests.sample import sample
from tests.zoo import count
from tests.zoo.zoo import Net, nets


def tiny(net: Net) -> tuple[nn.Module, torch.Tensor]:
    """The net at its test size, and a batch of pictures for it. Its batch norms have seen them:
    an untrained net whose running variances are one off by orders of magnitude folds badly."""
    torch.manual_seed(0)
    model, x = net.build(**net.tiny), torch.randn(4, net.channels, *net.tiny_size)
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm in norms:
        norm.momentum = 0.1
    return model, x


@pytest.mark.parametrize("net", [n for n in nets() if n.published], ids=lambda net: net.name)
def test_published_figures(net: Net) -> None:
    """Parameters to the last one (rounded ones within 0.5 %), multiply-adds within 0.5 %."""
    published = net.published
    with torch.device("meta"):
        model = net.build(**net.public)
    if published.params is not None:
        rounded = published.params % 10_000 == 0
        expected = pytest.approx(published.params, rel=5e-3 if rounded else 0)
        assert count.params(model) == expected
    if published.macs is not None:
        found = count.macs(model, published.size, net.channels)
        assert found == pytest.approx(published.macs, rel=5e-3)


@pytest.mark.parametrize("net", [n for n in nets() if not n.published], ids=lambda net: net.name)
def test_public_size_without_figures(net: Net) -> None:
    """Nobody counted it; at least it builds, and larger than the one that tests run."""
    with torch.device("meta"):
        model, small = net.build(**net.public), net.build(**net.tiny)
    assert count.params(model) > 2 * count.params(small)


@pytest.mark.parametrize("net", sample(nets(), 3, start=2), ids=lambda net: net.name)
def test_prepares_calibrates_and_trains(net: Net) -> None:
    model, x = tiny(net)
    prepared = prepare(model, (x,), qconfig="horizon_qat", prepare="horizon", march="bayes")
    assert len(groups(prepared)) >= 10

    with torch.no_grad():
        prepared.model(x)  # calibration: observes
    set_stage(prepared, "qat")
    loss = sum(y.float().square().mean() for y in tree_leaves(prepared.model(x)))
    loss.backward()
    assert torch.isfinite(loss)
    name, first = first_convolution(model, prepared.model, x)
    assert first.grad is not None, name
    assert torch.isfinite(first.grad).all() and first.grad.abs().max() > 0, name
    torch.optim.SGD(prepared.model.parameters(), lr=1e-3).step()

    set_stage(prepared, "eval")
    for module in prepared.model.modules():
        if isinstance(module, FakeQuantize):
            module.enable_fake_quant(False)
    state = prepared.model.state_dict()
    model.load_state_dict({name: state[name] for name in model.state_dict()})
    with torch.no_grad():  # in float64, so that rounding of deep nets hides nothing
        expected = tree_leaves(model.double().eval()(x.double()))
        found = tree_leaves(prepared.model.double()(x.double()))
    assert len(expected) == len(found)
    for a, b in zip(expected, found, strict=True):
        torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-11 * float(a.abs().max()))


def groups(prepared: Prepared) -> list[str]:
    """The fake-quants of activations, each of which closes one quantized group."""
    found = [d.fake_quant for d in prepared.decisions.values() if d.activation is not None]
    return list(dict.fromkeys(name for name in found if name is not None))


def first_convolution(
    model: nn.Module, prepared: nn.Module, x: torch.Tensor
) -> tuple[str, nn.Parameter]:
    """Name and parameter of the first convolution that the model runs."""
    ran: list[nn.Module] = []
    hooks = [
        m.register_forward_pre_hook(lambda module, _: ran.append(module))
        for m in model.modules()
        if isinstance(m, nn.modules.conv._ConvNd)
    ]
    with torch.no_grad():
        model.eval()(x)
    for hook in hooks:
        hook.remove()
    name = next(n for n, p in model.named_parameters() if p is ran[0].weight)
    return name, prepared.get_parameter(name)


def digest(context: GraphContext) -> str:
    """What the net computes, whatever its modules are called: canonical ops, who feeds whom,
    shapes of results and of parameters."""
    places: dict[fx.Node, int] = {}
    rows = []
    for node in context.graph.nodes:
        places[node] = len(places)
        module = context.module(node)
        shapes = [tuple(p.shape) for p in module.parameters()] if module is not None else []
        op = context.op(node) or (node.op if node.op != "call_function" else str(node.target))
        feeds = [places[n] for n in node.all_input_nodes]
        results = [tuple(t.shape) for t in tree_leaves(context.value(node)) if hasattr(t, "shape")]
        rows.append((op, feeds, results, shapes))
    return hashlib.sha256(repr(rows).encode()).hexdigest()


def test_no_net_equals_another(graphs: dict[str, GraphContext]) -> None:
    seen: dict[str, str] = {}
    for name, context in graphs.items():
        twin = seen.setdefault(digest(context), name)
        assert twin == name, f"{name} is {twin} under another name"


def test_names_are_unique_and_there_are_sixty() -> None:
    names = [net.name for net in nets()]
    assert len(set(names)) == len(names) >= 60
