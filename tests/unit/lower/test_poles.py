"""Functions with a pole or an infinite slope, on a grid that has the number where it is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from torch import Tensor, nn

from qatspec.api import lower, prepare, set_stage
from qatspec.quant.guarded import GuardedOperand
from tests.forms import each_layer_agrees


def _of_relu(x: Tensor) -> Tensor:
    return x.relu() + 1e-6


def _quotient(x: Tensor, below: Tensor) -> Tensor:
    return x / (below + 1e-9)


#: Functions whose operand is 0 or an end of their domain on the grid of these inputs.
CASES: dict[str, Callable[[Tensor], Tensor]] = {
    "quotient": lambda x: _quotient(x, x.relu().sum(1, keepdim=True)),
    "divisor below 0": lambda x: _quotient(x, -x.relu()),
    "divisor of either sign": lambda x: x / x.transpose(2, 3),
    "divisor that is moved": lambda x: x[:, :2] / _of_relu(x)[:, 2:].flip(1),
    "number / x": lambda x: 2.0 / _of_relu(x),
    "reciprocal": lambda x: torch.reciprocal(_of_relu(x)),
    "rsqrt": lambda x: torch.rsqrt(_of_relu(x)),
    "negative power": lambda x: _of_relu(x) ** -0.5,
    "x to the power of -1": lambda x: _of_relu(x) ** -1,
    "log": lambda x: torch.log(_of_relu(x)),
    "log of a base": lambda x: torch.log2(_of_relu(x)),
    "root": lambda x: torch.sqrt(x.square().sum(1, keepdim=True) + 1e-9),
    "power below 1": lambda x: x.abs() ** 0.25,
    "std": lambda x: x / (x.relu().std(1, keepdim=True) + 1e-9),
    "rms": lambda x: F.rms_norm(x.relu(), (4,)),
    "length": lambda x: F.normalize(x.relu()),
    "sum of parts": lambda x: x.relu() / x.relu().sum((2, 3), keepdim=True).clamp(min=1e-12),
    "acos": lambda x: torch.acos(x.clamp(-1, 1)),
    "atanh": lambda x: torch.atanh(x.clamp(-0.99, 0.99)),
    "log1p": lambda x: torch.log1p(x.clamp(min=-0.99)),
}


class Net(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.conv, self.function = nn.Conv2d(3, 4, 1), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def _images(seed: int = 0) -> Tensor:
    """Some rows of nothing: their sums, lengths and deviations are 0."""
    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    x[:, :, 1] = -3.0
    return x


def _trained(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, list[Tensor]]:
    """(the fake-quant model's result, the gradients)."""
    prepared = prepare(Net(function), (x,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(x)
    set_stage(prepared, "qat")
    y = prepared.model(x)
    y.square().mean().backward()
    return y, [p.grad for p in prepared.model.parameters() if p.grad is not None]


@pytest.mark.parametrize("case", CASES)
def test_result_and_gradients_are_finite(case: str) -> None:
    torch.manual_seed(0)
    y, gradients = _trained(CASES[case], _images())
    assert y.isfinite().all()
    assert gradients and all(g.isfinite().all() for g in gradients)


@pytest.mark.parametrize("case", CASES)
def test_all_forms_agree(case: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    each_layer_agrees(Net(CASES[case]).eval(), _images(), tmp_path)


def test_a_divisor_that_rounds_to_0_counts_as_one_step() -> None:
    x = torch.tensor([[1.0, 1e-6, -2.0, -1e-6, 1e-7]])

    class Quotient(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x + 1.0) / x

    prepared = prepare(Quotient(), (x,), qconfig="horizon_qat", quantize_output=True)
    prepared.model(x)
    set_stage(prepared, "eval")
    with torch.no_grad():
        prepared.model.truediv_activation_post_process_0.scale.fill_(0.5)
        expected = prepared.model(x) / 0.5
    program = lower(prepared, (x,))
    (found,) = program.run(*program.quantize(x.numpy()))
    step = 2 / 127
    assert found.tolist() == expected.tolist() == [[4, min(round(2 / step), 127), 1, 127, 127]]


def test_a_float_model_keeps_its_own_infinity() -> None:
    class Quotient(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return 1.0 / x

    x = torch.tensor([[0.0, 2.0]])
    prepared = prepare(Quotient(), (x,), qconfig="horizon_qat", quantize_output=True)
    assert prepared.model(x).tolist() == [[float("inf"), 0.5]]


@pytest.mark.parametrize("function", [torch.sin, torch.exp, torch.abs, F.silu, F.mish, torch.sign])
def test_other_functions_have_no_guard(function: Callable[[Tensor], Tensor]) -> None:
    prepared = prepare(Net(function), (_images(),), qconfig="horizon_qat", quantize_output=True)
    assert not any(isinstance(m, GuardedOperand) for m in prepared.model.modules())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 99),
    dim=st.sampled_from([1, 2, 3, (2, 3)]),
    eps=st.sampled_from([1e-30, 1e-6]),
    negative=st.booleans(),
)
def test_any_normalised_sum(seed: int, dim: Any, eps: float, negative: bool) -> None:
    sign = -1 if negative else 1
    y, gradients = _trained(
        lambda x: x.relu() / (sign * x.relu().sum(dim, keepdim=True) + sign * eps), _images(seed)
    )
    assert y.isfinite().all() and all(g.isfinite().all() for g in gradients)
