from __future__ import annotations

import pytest
import torch
from torch import nn

from qatspec.quant.build import build_fake_quant
from qatspec.quant.regrid import MIN_SCALE
from qatspec.train.optim import build_optimizer
from qatspec.train.scales import LearnedScales
from qatspec.types import QSpec
from tests.trainers import part


def trained(kind: str, steps: int, gradient: float = 1.0, **params) -> tuple[float, float]:
    """The scale of a small channel, and of a large one, after steps that lower both."""
    fake_quant = build_fake_quant(QSpec(fake_quant="lsq", ch_axis=0), 2)
    model = nn.Sequential(nn.Linear(2, 2), fake_quant)
    fake_quant.set_scale(torch.tensor([1e-4, 1.0]))
    optimizer = build_optimizer(model, part("optimizer", kind, **params))
    scales = LearnedScales(model, kind)
    for _ in range(steps):
        fake_quant.scale.grad = torch.full((2,), gradient)
        scales.before_step()
        optimizer.step()
        scales.after_step()
    return tuple(fake_quant.scale.tolist())


@pytest.mark.parametrize("kind", ["adamw", "adam", "nadam", "adamax", "rmsprop", "adagrad"])
def test_no_channel_dies(kind):
    small, large = trained(kind, 100, lr=1e-3)
    assert 0.3 < large < 1.0
    assert small == pytest.approx(large * 1e-4, rel=1e-5)


def test_a_step_takes_half_at_most():
    assert trained("adamw", 1, lr=10.0) == pytest.approx((0.5e-4, 0.5))


def test_steps_of_sgd_follow_the_gradient():
    small, large = trained("sgd", 1, lr=1e-3, gradient=2.0)
    assert (small, large) == pytest.approx((MIN_SCALE, 0.998))
