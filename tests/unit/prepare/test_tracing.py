"""One graph for training and evaluation."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.diag import DiagnosticError
from qatspec.prepare import prepare, set_stage
from tests.unit.prepare.conftest import INT8, image


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, self.training)


def test_functional_dropout_knows_the_mode() -> None:
    prepared = prepare(Dropping(), (image(),), qconfig=INT8)
    model = prepared.model
    assert (model(image()) == 0).float().mean() < 0.01
    set_stage(prepared, "qat")
    assert 0.3 < (model(image()) == 0).float().mean() < 0.7
    assert list(model.state_dict())[:2] == ["conv.weight", "conv.bias"]


class Auxiliary(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        if self.training:
            y = y + self.conv(x).relu()
        return y


def test_a_weight_that_training_uses_again_is_an_error() -> None:
    with pytest.raises(DiagnosticError, match="training and in evaluation") as caught:
        prepare(Auxiliary(), (image(),), qconfig=INT8)
    assert caught.value.diagnostics[0].code == "QS503"


def test_the_place_is_named() -> None:
    with pytest.raises(DiagnosticError, match=r"test_tracing\.py:\d+"):
        prepare(Auxiliary(), (image(),), qconfig=INT8)


def test_the_model_keeps_its_modes() -> None:
    net = Dropping()
    net.conv.eval()
    prepare(net, (image(),), qconfig=INT8)
    assert net.training and not net.conv.training


def test_a_model_that_fails_by_itself() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.reshape(7)

    with pytest.raises(DiagnosticError, match="fails on its example input") as caught:
        prepare(Broken(), (image(),), qconfig=INT8)
    found = caught.value.diagnostics[0]
    assert found.code == "QS504" and found.span is not None and found.span.file == __file__


def test_a_module_that_does_not_run() -> None:
    class Lazy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.used, self.unused = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.used(x)

    with pytest.raises(DiagnosticError, match="`unused` did not run") as caught:
        prepare(Lazy(), (image(),), qconfig=INT8, modules={"unused": {}})
    assert caught.value.diagnostics[0].code == "QS505"


def test_dead_branches_go() -> None:
    class Dead(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.dead = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            self.dead(x)
            return self.conv(x)

    prepared = prepare(Dead(), (image(),), qconfig=INT8)
    assert type(prepared.model.dead) is nn.Conv2d
    assert torch.equal(prepared.model(image()), prepared.model(image()))
