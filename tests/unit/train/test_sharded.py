"""Evaluation and observers of two processes against those of one.

The file is also the program of the two: `torchrun --standalone --nproc-per-node 2 test_sharded.py
FOLDER` leaves there what they computed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from qatspec.diag.codes import QS911
from qatspec.prepare import prepare, set_stage
from qatspec.train.distributed import ALONE, Processes, ranks
from qatspec.train.evaluate import evaluate
from qatspec.train.loader import Loader
from qatspec.types import Sample

#: name -> images, batch size, numbers of the images that cannot be read
SETS = {
    "whole batches": (16, 4, ()),
    "a last batch of one": (21, 4, ()),
    "more processes than batches": (3, 4, ()),
    "a batch that cannot be read": (20, 2, (4, 5, 9)),
    "a process without images": (8, 4, (4, 5, 6, 7)),
}
OBSERVERS = ("min_max", "moving_average", "percentile", "mse", "kl", "mix")


class Pictures:
    """Its metric depends on every prediction, on how often each image comes, and on the order."""

    classes = ("one",)

    def __init__(self, count: int, broken: tuple[int, ...]) -> None:
        self.count, self.broken = count, broken

    def __len__(self) -> int:
        return self.count

    def sample(self, index: int, rng: np.random.Generator) -> Sample:
        if index in self.broken:
            raise QS911.error(f"number {index}")
        image = np.random.default_rng(index).normal(0, 1, (1, 4, 4)).astype(np.float32)
        return Sample(image, {}, {"id": index})

    def evaluate(self, predictions: Any) -> dict[str, float]:
        score = 0.0
        for meta, one in predictions:
            score = score * 0.9 + float(one["sum"]) + meta["id"]
        return {"score": score, "images": len(predictions)}


class Net(nn.Conv2d):
    """Batch norms of processes differ until they evaluate."""

    def __init__(self, rank: int) -> None:
        super().__init__(1, 2, 3)
        nn.init.constant_(self.weight, 0.1 + rank)
        nn.init.constant_(self.bias, rank)

    def predict(self, outputs: Tensor) -> list[dict[str, Tensor]]:
        return [{"sum": one.sum()} for one in outputs]


def metrics(group: Processes, name: str) -> dict[str, float]:
    count, size, broken = SETS[name]
    loader = Loader(Pictures(count, broken), size, seed=0)
    net = Net(group.rank)
    group.agree(net)
    return evaluate(net, net.predict, loader, device=torch.device("cpu"), group=group)


def observed(group: Processes, observer: str) -> dict[str, Tensor]:
    """The state after three steps of four pictures, which the processes share."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 2, 1))
    activation = {"observer": observer, "fake_quant": "fixed"}
    qconfig = {"": {"activation": activation, "weight": {"ch_axis": 0}}}
    prepared = prepare(net, (torch.zeros(1, 3, 8, 8),), qconfig=qconfig)
    set_stage(prepared, "calibration")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for step in range(3):
            pictures = (1 + step) * torch.randn(4, 3, 8, 8, generator=generator)
            pictures[2:] *= 3  # the second process sees larger numbers
            size = 4 // group.world
            prepared.model(pictures[group.rank * size : (group.rank + 1) * size])
    return {k: v.clone() for k, v in prepared.model.state_dict().items() if "process" in k}


def compute(group: Processes, folder: str, report: object) -> None:
    found: dict[str, Any] = {}
    for name in SETS:
        found[name] = group.gather(metrics(group, name))
    for observer in OBSERVERS:
        found[observer] = group.gather(observed(group, observer))
    if group.is_main:
        torch.save(found, Path(folder) / "found.pt")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
         __file__, str(folder)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", SETS)
def test_metrics_are_those_of_one_process(found, name):
    assert found[name] == [metrics(ALONE, name)] * 2


@pytest.mark.parametrize("observer", OBSERVERS)
def test_observers_take_the_batches_of_both_as_one(found, observer):
    expected = observed(ALONE, observer)
    for state in found[observer]:
        assert list(state) == list(expected)
        for key, value in expected.items():
            torch.testing.assert_close(state[key], value, rtol=0, atol=0, equal_nan=True)


if __name__ == "__main__":
    with ranks("cpu") as met:
        if met.is_main:
            met.together(compute, sys.argv[1], report=print)
        else:
            met.serve()
