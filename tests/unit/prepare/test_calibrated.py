"""Calibrations of finite numbers that are of no use: QS614 and QS615, where a stage ends them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from qatspec.prepare import prepare, set_stage
from qatspec.train.given import load_state

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Net(nn.Module):
    def __init__(self, *, dead: bool = False) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.last, self.dead = nn.Conv2d(4, 4, 1), dead

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.norm(self.conv(x)))
        return self.last(y * 0 if self.dead else y)


def prepared_net(net: nn.Module, preset: str = "horizon_calibration"):
    return prepare(net.eval(), (X,), qconfig=preset)


def trained(net: nn.Module) -> nn.Module:
    net.train()(X)
    return net


def codes(prepared) -> list[str]:
    return [w.code for w in prepared.warnings]


def test_a_useful_calibration_has_no_warnings() -> None:
    prepared = prepared_net(trained(Net()))
    prepared.model(X)
    set_stage(prepared, "eval")
    assert codes(prepared) == []


@pytest.mark.parametrize("stage", ["qat", "eval"])
def test_black_pictures_are_told_where_the_calibration_ends(stage: str) -> None:
    prepared = prepared_net(trained(Net()))
    prepared.model(X * 0)
    assert codes(prepared) == []
    set_stage(prepared, stage)
    (warning,) = prepared.warnings
    assert warning.code == "QS614" and "the input `x` was 0 in every batch" in warning.message
    set_stage(prepared, "qat")
    set_stage(prepared, "eval")
    assert codes(prepared) == ["QS614"]  # once


def test_a_branch_that_is_0_names_its_line() -> None:
    prepared = prepared_net(trained(Net(dead=True)))
    prepared.model(X)
    set_stage(prepared, "eval")
    (warning,) = prepared.warnings
    assert warning.code == "QS614" and "mul" in warning.message
    assert warning.span is not None and warning.span.file.endswith("test_calibrated.py")


def test_scales_of_a_file_are_doubted_too(tmp_path) -> None:
    first = prepared_net(trained(Net()))
    first.model(X * 0)
    torch.save(first.model.state_dict(), tmp_path / "calibrated.pth")
    second = prepared_net(trained(Net()), "horizon_calibrated")
    load_state(second, tmp_path / "calibrated.pth")
    set_stage(second, "qat")
    assert codes(second) == ["QS614"]


def test_norms_that_never_ran() -> None:
    prepared = prepared_net(Net())
    prepared.model(X)
    set_stage(prepared, "qat")
    (warning,) = prepared.warnings
    assert warning.code == "QS615" and "a batch norm has" in warning.message
    assert "`norm`" in warning.message


def test_a_training_whose_scales_follow_it_needs_no_statistics() -> None:
    prepared = prepared_net(Net(), "horizon_qat")
    set_stage(prepared, "qat")
    prepared.model(X)
    set_stage(prepared, "eval")
    assert codes(prepared) == []


def test_statistics_without_a_count_are_statistics() -> None:
    state = trained(Net()).state_dict()
    state["norm.num_batches_tracked"] = torch.tensor(0)  # as files of some tools have it
    net = Net()
    net.load_state_dict(state)
    prepared = prepared_net(net)
    prepared.model(X)
    set_stage(prepared, "eval")
    assert codes(prepared) == []
