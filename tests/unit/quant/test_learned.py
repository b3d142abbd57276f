"""lsq and pact: gradients by hand, and that scales train."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.quant.build import build_fake_quant
from qatspec.quant.learned import LearnedFakeQuantize, clamp_scales
from qatspec.types import QConfig, QSpec

X = torch.tensor([-40.0, -3.3, -0.2, 0.6, 1.7, 3.49, 50.0])
GRAD = torch.tensor([1.0, 2.0, -1.0, 0.5, 3.0, 1.0, 2.0])


def _built(fake_quant: str, **settings) -> LearnedFakeQuantize:
    built = build_fake_quant(QSpec(dtype="qint4", fake_quant=fake_quant, **settings), 2)
    assert isinstance(built, LearnedFakeQuantize)
    built.set_scale(torch.full_like(built.scale, 0.5))
    return built.train()


@pytest.mark.parametrize("fake_quant", ["lsq", "pact"])
def test_forward_and_the_gradient_of_x(fake_quant: str) -> None:
    built, x = _built(fake_quant), X.clone().requires_grad_()
    y = built(x)
    y.backward(GRAD)
    assert y.tolist() == [-4.0, -3.5, 0.0, 0.5, 1.5, 3.5, 3.5]
    assert x.grad.tolist() == [0.0, 2.0, -1.0, 0.5, 3.0, 1.0, 0.0]


def test_lsq_gradient_of_the_scale() -> None:
    built = _built("lsq")
    built(X).backward(GRAD)
    v = X / 0.5
    by_hand = torch.where(v <= -8, -8.0, torch.where(v >= 7, 7.0, v.round() - v))
    expected = (GRAD * by_hand).sum() / math.sqrt(7 * 7)
    torch.testing.assert_close(built.scale.grad, expected.reshape(1))


def test_lsq_per_channel() -> None:
    built = _built("lsq", ch_axis=0)
    w, grad = torch.stack([X, X * 2]), torch.stack([GRAD, GRAD * 3])
    built(w).backward(grad)
    for row in range(2):
        v = w[row] / 0.5
        by_hand = torch.where(v <= -8, -8.0, torch.where(v >= 7, 7.0, v.round() - v))
        expected = (grad[row] * by_hand).sum() / math.sqrt(7 * 7)
        torch.testing.assert_close(built.scale.grad[row], expected)


def test_pact_learns_from_what_it_clips() -> None:
    built = _built("pact")
    built(X).backward(GRAD)
    alpha_grad = GRAD[6] - GRAD[0]
    torch.testing.assert_close(built.scale.grad, (alpha_grad / 7.5).reshape(1))
    # a step of SGD on the scale is the same step on alpha
    alpha = built.scale.detach() * 7.5 - 0.1 * alpha_grad
    torch.testing.assert_close((built.scale - 0.1 * built.scale.grad) * 7.5, alpha)


@pytest.mark.parametrize("fake_quant", ["lsq", "pact"])
def test_the_scale_moves_towards_less_error(fake_quant: str) -> None:
    built = build_fake_quant(QSpec(dtype="qint4", fake_quant=fake_quant)).train()
    built.set_scale(torch.tensor([0.02]))
    x = torch.randn(4096, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.SGD(built.parameters(), lr=0.05)

    def error() -> Tensor:
        return (built(x) - x).square().mean()

    before = error().item()
    for _ in range(100):
        optimizer.zero_grad()
        (error() * 100).backward()
        optimizer.step()
    assert error().item() < 0.2 * before
    assert built.scale.item() > 0.1


def test_a_scale_never_turns_negative() -> None:
    built = _built("lsq")
    with torch.no_grad():
        built.scale.fill_(-1.0)
    assert built(X).isfinite().all() and built.scale.item() > 0


@pytest.mark.parametrize("fake_quant", ["lsq", "pact"])
def test_in_a_model(fake_quant: str) -> None:
    config = QConfig(
        activation=QSpec(fake_quant=fake_quant),
        weight=QSpec(fake_quant="lsq", ch_axis=0),
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    prepared = prepare(net, (x,), qconfig=config)
    model = prepared.model
    set_stage(prepared, "qat")
    model(x)  # the first batch sets the scales
    post = model.get_submodule("_0_activation_post_process_0")
    assert isinstance(post, LearnedFakeQuantize) and post.observed
    first = post.scale.detach().clone()
    model(x * 10)
    assert torch.equal(post.scale, first)  # no observer moves it any more
    with torch.no_grad():
        post.scale.mul_(0.5)
    first = post.scale.detach().clone()
    model(x * 10).square().sum().backward()
    scales = [m.scale for m in model.modules() if isinstance(m, LearnedFakeQuantize)]
    assert all(s.grad is not None and s.grad.isfinite().all() for s in scales)
    torch.optim.SGD(model.parameters(), lr=1e-4).step()
    clamp_scales(model)  # as `set_stage` does
    assert not torch.equal(post.scale, first)
    again = prepare(net, (x,), qconfig=config)
    again.model.load_state_dict(model.state_dict())
    set_stage(again, "eval")
    set_stage(prepared, "eval")
    assert torch.equal(again.model(x), model(x))
    before = copy.deepcopy(model.state_dict())
    model(x * 3)
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
