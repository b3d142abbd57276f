"""Two processes with synchronized batch norms against one with the whole batch.

The file is also the program of the two: `torchrun --standalone --nproc-per-node 2
test_batch_norm.py FOLDER` leaves there what they computed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from qatspec.plan.checkpoints import checkpoint_path
from qatspec.prepare import prepare, set_stage
from qatspec.spec import Component, Trainer
from qatspec.train.batch_norm import SynchronizedBatchNorm
from qatspec.train.checkpoint import load
from qatspec.train.distributed import ALONE, Processes, ranks
from qatspec.train.loader import Loader
from qatspec.train.loop import Training, fit
from qatspec.types import Sample

Results = dict[str, Tensor]


class Functional(nn.Module):
    """Both spellings of a functional batch norm, with keywords and without affine parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.tensor([0.5, -1.0, 2.0]))
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("var", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        y = F.batch_norm(input=x, running_mean=self.mean, running_var=self.var, training=True)
        return torch.batch_norm(y, self.gamma, None, None, None, True, 0.1, 1e-3, True)


def fused() -> nn.Module:
    """Conv, batch norm and relu in the qat stage. Scales of activations are those of larger ones:
    where the greatest is the scale's own, rounding decides whether it is clipped."""
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU())
    seen = 2 * torch.randn(8, 3, 6, 6)
    fixed = {"observer": "min_max", "fake_quant": "fixed"}
    qconfig = {"": {"activation": fixed, "weight": {"ch_axis": 0, "averaging_constant": 1.0}}}
    prepared = prepare(net, (seen,), qconfig=qconfig)
    set_stage(prepared, "calibration")
    prepared.model(2 * seen)
    set_stage(prepared, "qat")
    return prepared.model


NETS = {
    "conv": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 3, 1),
        nn.BatchNorm2d(3, momentum=None),
    ),
    "functional": Functional,
    "one value a process": lambda: nn.Sequential(
        nn.AdaptiveAvgPool2d(1), nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False)
    ),
    "vectors": lambda: nn.Sequential(nn.Flatten(), nn.Linear(108, 6), nn.BatchNorm1d(6)),
    "mean far from zero": lambda: nn.BatchNorm2d(3, track_running_stats=False),
    "fused": fused,
}  # fmt: skip
SPLITS = [(2, 2), (3, 1)]


def case(name: str) -> tuple[nn.Module, Tensor]:
    """A net in training mode, the same in every process, and its whole batch of four."""
    torch.manual_seed(1)
    net = NETS[name]().train()
    x = torch.randn(4, 3, 6, 6) * torch.tensor([1.0, 2.0, 0.5, 3.0]).reshape(4, 1, 1, 1)
    return net, x + 1e3 if name == "mean far from zero" else x


def passed(net: nn.Module, x: Tensor, rows: slice, context=None) -> Results:
    """Two forwards and backwards of some rows of the batch: the second meets moved statistics."""
    x = x[rows].clone().requires_grad_()
    for _ in range(2):
        if context is None:
            y = net(x)
        else:
            with context:
                y = net(x)
        weights = torch.linspace(-1, 2, 4 * y[0].numel()).reshape(4, *y.shape[1:])[rows]
        (y * weights).sum().backward()
    gradients = {f"gradient of {k}": p.grad for k, p in net.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **gradients, **dict(net.named_buffers())}


def together(group: Processes, name: str, split: tuple[int, int], synchronized: bool) -> Results:
    """What two processes computed, put together as DDP and the loader would."""
    rows = slice(0, split[0]) if group.is_main else slice(split[0], 4)
    context = SynchronizedBatchNorm() if synchronized else None
    every: list = [None, None]
    dist.all_gather_object(every, passed(*case(name), rows, context))
    first, second = every
    whole = dict(first)
    for key in first:
        if key in ("x", "y"):
            whole[key] = torch.cat([first[key], second[key]])
        elif key.startswith("gradient"):
            whole[key] = first[key] + second[key]
        elif synchronized:
            assert torch.equal(first[key], second[key]), f"{key} differs between processes"
    return whole


class Blobs:
    classes = ("dark", "bright")

    def __len__(self) -> int:
        return 16

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        image = rng.normal(index % 2, 0.5, (1, 4, 4)).astype(np.float32)
        return Sample(image, {"label": np.array(index % 2)}, {})


class Net(nn.Sequential):
    def loss(self, outputs: Tensor, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        return {"label": F.cross_entropy(outputs, torch.stack([t["label"] for t in targets]))}


def trained(group: Processes, folder: Path, batch_norm: str) -> Path:
    """Two epochs of batches of four, however many processes share one; gives the checkpoint."""
    torch.manual_seed(0)
    model = Net(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    loader = Loader(Blobs(), batch_size=4 // group.world, seed=7, rank=group.rank,
                    world=group.world)  # fmt: skip
    optimizer = Component(type="sgd", params={
        "lr": 0.1, "momentum": 0.9, "nesterov": False, "weight_decay": 0.0, "groups": [],
    })  # fmt: skip
    folder.mkdir(exist_ok=True)
    fit(
        Training(
            stage="float", model=model, to_train=model.train, loader=loader, metric="none",
            trainer=Trainer(epochs=2, optimizer=optimizer, batch_norm=batch_norm),
            validate=lambda: {"none": 0.0}, folder=folder, device=torch.device("cpu"), seed=7,
            group=group,
        )
    )  # fmt: skip
    return checkpoint_path(folder, "float", "last")


def compute(group: Processes, folder: str, report: object) -> None:
    results = {
        (name, split): together(group, name, split, True) for name in NETS for split in SPLITS
    }
    results["apart"] = together(group, "fused", (2, 2), False)
    for run, batch_norm in {
        "first": "synchronized",
        "again": "synchronized",
        "own": "running",
    }.items():
        trained(group, Path(folder) / run, batch_norm)
    if group.is_main:
        torch.save(results, Path(folder) / "results.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         __file__, str(folder)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return folder


@pytest.fixture(scope="module")
def results(folder):
    return torch.load(folder / "results.pt")


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", NETS)
def test_two_processes_compute_what_one_does_with_the_whole_batch(results, name, split):
    expected = passed(*case(name), slice(None))
    found = results[name, split]
    assert set(found) == set(expected)
    for key, value in expected.items():
        # Gradients of parameters are sums in which most of what is added cancels.
        alike = [
            v for k, v in expected.items() if k == key or ("gradient" in key and "gradient" in k)
        ]
        largest = max(1.0, *(float(v.abs().max()) for v in alike))
        apart = float((found[key] - value).abs().max())
        assert apart <= largest * (1e-3 if name == "mean far from zero" else 1e-5), key


def test_without_synchronization_they_do_not(results):
    expected = passed(*case("fused"), slice(None))
    for key in ("y", "x", "gradient of 0.weight", "1.running_mean", "1.running_var"):
        assert (results["apart"][key] - expected[key]).abs().max() > 1e-3, key


def test_a_training_of_two_is_that_of_one_with_the_batches_of_both(folder, tmp_path):
    alone = load(trained(ALONE, tmp_path / "alone", "synchronized")).weights
    for run, same in {"first": True, "own": False}.items():
        weights = load(checkpoint_path(folder / run, "float", "last")).weights
        assert list(weights) == list(alone)
        furthest = max(float((weights[k] - alone[k]).abs().max()) for k in alone)
        assert (furthest < 1e-5) is same


def test_a_training_of_two_gives_the_same_bytes_again(folder):
    first, again = (checkpoint_path(folder / run, "float", "last") for run in ("first", "again"))
    assert first.read_bytes() == again.read_bytes()


def test_one_process_gives_the_bytes_of_plain_batch_norm(tmp_path):
    paths = [trained(ALONE, tmp_path / mode, mode) for mode in ("synchronized", "running")]
    assert paths[0].read_bytes() == paths[1].read_bytes()


if __name__ == "__main__":
    with ranks("cpu") as met:
        if met.is_main:
            met.together(compute, sys.argv[1], report=print)
        else:
            met.serve()
