"""Gradients that forward switches off stay off in the prepared model."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.lower import lower
from qatspec.prepare import prepare, set_stage
from tests.unit.prepare.conftest import image


class _Net(nn.Module):
    def __init__(self, code: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.code = code
        self.a, self.b = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Any:
        return self.code(self, x)


def _with(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = F.relu(net.norm(net.a(x)))
    return net.b(y)


def _decorated(net: Any, x: Tensor) -> Tensor:
    return net.b(torch.no_grad()(net.a)(x))


def _nested(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = net.a(x)
        with torch.enable_grad():
            return net.b(y)


def _gate(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    with torch.no_grad():
        gate = torch.sigmoid(y.mean((2, 3), keepdim=True))
    return net.b(y * gate)


def _parts(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        parts = net.a(x).split(2, 1)
    return net.b(torch.cat([parts[1], parts[0]], 1))


def _weight(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        weight = net.a.weight * 0.5
    return net.b(F.conv2d(x, weight, net.a.bias, padding=1))


def _in_training(net: Any, x: Tensor) -> Tensor:
    with torch.set_grad_enabled(net.training):
        y = net.a(x)
    return net.b(y)


def _constant(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        ramp = torch.linspace(0, 1, x.shape[3])
    return net.b(net.a(x)) + ramp


def _gradients(model: nn.Module) -> dict[str, Tensor | None]:
    model.zero_grad()
    model(image()).square().mean().backward()
    return {name: p.grad for name, p in model.named_parameters()}


def _clamped(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    with torch.no_grad():
        y.clamp_(0, 0.5)
    return net.b(y)


def _added(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    with torch.no_grad():
        y += 1
    return net.b(y)


def _in_a_module(net: Any, x: Tensor) -> Tensor:
    y = net.a(x)
    with torch.no_grad():
        F.relu(y, inplace=True)
    return net.b(y)


@pytest.mark.parametrize("code", [_clamped, _added, _in_a_module])
def test_a_change_that_autograd_does_not_see_is_refused(code: Any) -> None:
    with pytest.raises(DiagnosticError) as caught:
        prepare(_Net(code).eval(), (image(),), qconfig="horizon_qat")
    (found,) = caught.value.diagnostics
    assert found.code == "QS515" and found.span.file == __file__


def _constant_in_place(net: Any, x: Tensor) -> Tensor:
    with torch.no_grad():
        ramp = torch.linspace(0, 1, x.shape[3])
        ramp.clamp_(0.1, 0.9)
    return net.b(net.a(x)) + ramp


def _way_out(net: Any, x: Tensor) -> Tensor:
    return net.b(net.a(x).clamp(0, 0.5))


@pytest.mark.parametrize(
    "code",
    [
        _constant_in_place,
        _way_out,
        _with,
        _decorated,
        _nested,
        _gate,
        _parts,
        _weight,
        _in_training,
        _constant,
    ],
)
@pytest.mark.parametrize("outside", [torch.enable_grad, torch.no_grad])
def test_what_forward_does_not_train_is_not_trained(code: Any, outside: Any) -> None:
    """The parameters with a gradient are those of the float model, whatever the mode of gradients
    in which `prepare` is called, and in calibration the gradients are equal."""
    net = _Net(code).eval()
    with outside():
        prepared = prepare(net, (image(),), qconfig="horizon_qat")
    found = _gradients(prepared.model)
    for name, gradient in _gradients(copy.deepcopy(net)).items():
        if gradient is not None:
            torch.testing.assert_close(found[name], gradient, rtol=1e-3, atol=1e-6)
    wanted = {n: g is not None for n, g in _gradients(copy.deepcopy(net).train()).items()}
    set_stage(prepared, "qat")
    found = _gradients(prepared.model)
    assert {name: found[name] is not None for name in wanted} == wanted
    set_stage(prepared, "eval")
    lower(prepared, (image(),))


class _Kept(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.register_buffer("mean", torch.zeros(4))
        self.before: Tensor | None = None


class _Assigns(_Kept):
    def forward(self, x: Tensor) -> Tensor:
        self.mean = self.mean * 0.9 + 0.1
        return self.conv(x) * self.mean.view(1, -1, 1, 1)


class _Counts(_Kept):
    def forward(self, x: Tensor) -> Tensor:
        self.mean += 1
        return self.conv(x)


class _Recurs(_Kept):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        before, self.before = self.before, y
        return y if before is None else y + before


class _WritesOut(_Kept):
    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        torch.add(y, 1, out=y)
        return y


@pytest.mark.parametrize("net", [_Assigns, _Counts, _Recurs, _WritesOut])
def test_state_that_forward_leaves_is_refused(net: type[nn.Module]) -> None:
    """A graph that computes the same in every call cannot hold it."""
    with pytest.raises(DiagnosticError) as info:
        prepare(net().eval(), (image(),), qconfig="horizon_qat")
    (found,) = info.value.diagnostics
    assert (found.code, bool(found.span)) == ("QS502", True)


class _TwoInTraining(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head, self.other = nn.Conv2d(3, 2, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Any:
        return (self.head(x), self.other(x)) if self.training else self.head(x)


def test_a_leaf_that_returns_more_in_training() -> None:
    net = nn.Sequential(nn.Conv2d(3, 3, 1), _TwoInTraining()).eval()
    config = {"non_traceable_module_class": [_TwoInTraining]}
    with pytest.raises(DiagnosticError) as info:
        prepare(net, (image(),), qconfig="horizon_qat", prepare=config)
    assert [d.code for d in info.value.diagnostics] == ["QS503"]
