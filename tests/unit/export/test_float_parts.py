"""Parts that no rule quantizes, in front of the integers and behind them: every op there is, in
files that together compute what the model computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.export import export_qat_onnx
from qatspec.export.host import HostRunner, export_host, network_feeds
from qatspec.export.runner import open_session
from qatspec.graph.deploy import deploy
from qatspec.lower import lower
from qatspec.lower.split import host_parts
from qatspec.prepare import set_stage
from qatspec.stages.integers import produce_with
from tests.fixes.following import calibrated
from tests.layers import EXAMPLES, LAYERS, images, layer

NAMES = [*LAYERS, *EXAMPLES]
CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Net(nn.Module):
    """first -> second; one of them is quantized."""

    def __init__(self, **parts: nn.Module) -> None:
        super().__init__()
        self.first, self.second = parts.values()

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x))


def projection(x: Tensor) -> nn.Module:
    """A layer of weights that takes x."""
    if x.dim() == 2:
        return nn.Linear(x.shape[1], x.shape[1])
    return CONV[x.dim() - 2](x.shape[1], x.shape[1], 1)


def check(net: nn.Module, x: Tensor, quantized: str, folder: Path) -> None:
    """The float parts around the Program, and those around the Q/DQ file, give what the model
    gives."""
    prepared = calibrated(net, x, march="bayes", modules={quantized: {}})
    set_stage(prepared, "eval")
    program = lower(prepared, (x,))
    host = host_parts(deploy(prepared, (x,)))
    runner = HostRunner()
    if export_host(prepared, host, folder, "net"):
        runner = HostRunner.load(folder, "net")
    with torch.no_grad():
        wanted = prepared.model(x)
    around = None if runner == HostRunner() else runner
    got = produce_with(program, program.tree, around)(x)
    assert_alike(got, wanted)

    export_qat_onnx(prepared, folder / "net-qat.onnx")
    session = open_session((folder / "net-qat.onnx").read_bytes(), 0)
    inputs, outputs = ports(session.get_inputs()), ports(session.get_outputs())
    begins_behind = runner.pre is not None and inputs == ports(runner.pre.get_outputs())
    ends_early = runner.post is not None and outputs == ports(runner.post.get_inputs())
    feeds = network_feeds(inputs, [x.numpy()], runner if begins_behind else None)
    results = session.run(None, feeds)
    if ends_early:
        results = runner.behind(program.tree, results, [x.numpy()])[1]
    assert_alike(torch.from_numpy(results[0]), wanted)


def assert_alike(got: Tensor, wanted: Tensor) -> None:
    """Alike but for numbers that rounding moved by one step of the integers."""
    assert got.shape == wanted.shape
    if wanted.is_floating_point():
        assert (got - wanted).norm() <= 0.02 * wanted.norm()
    else:
        assert (got != wanted).float().mean() <= 0.02


def ports(sides: list) -> list[str]:
    return [side.name for side in sides]


@pytest.mark.parametrize("name", NAMES)
def test_behind_the_integers(name: str, tmp_path: Path) -> None:
    x = images(name)
    check(Net(first=projection(x), second=layer(name)), x, "first", tmp_path)


@pytest.mark.parametrize("name", EXAMPLES)
def test_in_front_of_the_integers(name: str, tmp_path: Path) -> None:
    x, op = images(name), layer(name)
    with torch.no_grad():
        y = op(x)
    if not y.is_floating_point():
        pytest.skip("no layer with weights reads its integers")
    check(Net(first=op, second=projection(y)), x, "second", tmp_path)


class Affine(nn.Module):
    """A linear layer as a function, which no quant handler writes where no rule quantizes it."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(12) * 0.9 + 0.01)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Around(nn.Module):
    def __init__(self, first: nn.Module, last: nn.Module) -> None:
        super().__init__()
        self.first, self.conv, self.last = first, nn.Conv2d(4, 4, 1), last

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.conv(self.first(x)))


@pytest.mark.parametrize(
    ("first", "last", "words"),
    [
        (nn.Identity, Affine, "ends where the float part behind the integers begins"),
        (Affine, nn.Identity, "begins behind the float part in front of the integers"),
        (Affine, Affine, "holds what is between the float parts"),
    ],
)
def test_the_file_holds_what_it_can(first, last, words, tmp_path: Path) -> None:
    """And says which part it leaves out."""
    torch.manual_seed(0)
    x = images("expand")
    net = Around(first(), last())
    check(net, x, "conv", tmp_path)
    prepared = calibrated(net, x, march="bayes", modules={"conv": {}})
    set_stage(prepared, "eval")
    (warning,) = export_qat_onnx(prepared, tmp_path / "again.onnx")
    assert warning.code == "QS519" and words in warning.message
    assert "`linear`: linear has no ONNX form here" in warning.message
