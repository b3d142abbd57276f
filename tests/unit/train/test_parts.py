from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from qatspec.diag import DiagnosticError, Span
from qatspec.diag.codes import QS901
from qatspec.prepare import prepare
from qatspec.quant.learned import LearnedFakeQuantize
from qatspec.train.ema import WeightAverage
from qatspec.train.loader import Loader
from qatspec.train.optim import build_optimizer
from qatspec.train.process import make_repeatable, pick_device
from tests.trainers import part


def test_weight_decay_acts_on_weights_alone():
    optimizer = build_optimizer(
        nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)),
        part("optimizer", "adamw", lr=0.1, weight_decay=0.5),
    )
    assert isinstance(optimizer, torch.optim.AdamW)
    decayed, free = optimizer.param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.5, 0.0)
    assert [p.dim() for p in decayed["params"]] == [2]
    assert [p.dim() for p in free["params"]] == [1, 1, 1]


def test_average_of_weights():
    net = nn.BatchNorm1d(1)
    average = WeightAverage(net, 0.5)
    with torch.no_grad():
        net.weight.fill_(3.0)
        net.num_batches_tracked.fill_(7)
    average.update()  # decay of the first step: min(0.5, 2/11)
    expected = 1.0 + (1 - 2 / 11) * 2.0
    with average.applied():
        assert net.weight.item() == pytest.approx(expected)
        assert int(net.num_batches_tracked) == 7
    assert net.weight.item() == 3.0
    other = WeightAverage(net, 0.5)
    other.load_state_dict(average.state_dict())
    with other.applied():
        assert net.weight.item() == pytest.approx(expected)


def test_average_survives_infinite_observer_ranges():
    net = nn.Module()
    net.activation_post_process = nn.Module()
    net.activation_post_process.register_buffer("min_val", torch.tensor(float("inf")))
    average = WeightAverage(net, 0.9)
    net.activation_post_process.min_val.fill_(-1.0)
    average.update()
    with average.applied():
        assert float(net.activation_post_process.min_val) == -1.0


def images(batches):
    return [batch.inputs[0].numpy().tobytes() for batch in batches]


def test_workers_never_change_bytes(toy_set):
    loaders = [Loader(toy_set(), batch_size=4, seed=3, workers=w) for w in (0, 2)]
    assert images(loaders[0].shuffled(1)) == images(loaders[1].shuffled(1))
    assert images(loaders[0].shuffled(1)) != images(loaders[0].shuffled(2))


def test_workers_stay_for_the_epochs_of_a_training(toy_set):
    """They begin each epoch, also after one that was left in the middle."""

    class Epochs(toy_set):
        def begin_epoch(self, epoch: int) -> None:
            self.epoch = epoch

        def sample(self, index, rng):
            made = super().sample(index, rng)
            return replace(made, meta={**made.meta, "epoch": self.epoch, "process": os.getpid()})

    loader = Loader(Epochs(), batch_size=4, seed=3, workers=2)
    alone = Loader(Epochs(), batch_size=4, seed=3)
    next(loader.shuffled(5))
    processes = set()
    for epoch in (0, 1, 2):
        batches = list(loader.shuffled(epoch))
        assert images(batches) == images(alone.shuffled(epoch))
        metas = [meta for batch in batches for meta in batch.metas]
        assert {meta["epoch"] for meta in metas} == {epoch}
        processes |= {meta["process"] for meta in metas}
    assert len(processes) == 2 and os.getpid() not in processes
    loader.close()
    with pytest.raises(ProcessLookupError):
        os.kill(next(iter(processes)), 0)
    assert images(loader.shuffled(1)) == images(alone.shuffled(1))
    loader.close()


def test_going_on_in_mid_epoch_is_a_slice(toy_set):
    loader = Loader(toy_set(), batch_size=4, seed=3)
    assert images(loader.shuffled(0, start=2)) == images(loader.shuffled(0))[2:]


def test_processes_share_out_an_epoch(toy_set):
    parts = [Loader(toy_set(), batch_size=4, seed=3, rank=r, world=2) for r in (0, 1)]
    assert [p.epoch_steps for p in parts] == [2, 2]
    seen = [m["id"] for p in parts for b in p.shuffled(0) for m in b.metas]
    assert len(seen) == len(set(seen)) == 16


def test_small_and_empty_sets(toy_set):
    few = Loader(toy_set(3), batch_size=8, seed=0)
    assert [len(b) for b in few.shuffled(0)] == [3]
    assert [len(b) for b in Loader(toy_set(10), batch_size=4, seed=0).ordered()] == [4, 4, 2]
    with pytest.raises(DiagnosticError, match="empty"):
        Loader(toy_set(0), batch_size=1, seed=0)


@pytest.fixture
def broken_set(toy_set):
    """broken_set(indices): a set whose examples at `indices` cannot be read."""

    class Broken(toy_set):
        def __init__(self, broken) -> None:
            super().__init__()
            self.broken = broken

        def sample(self, index: int, rng: np.random.Generator):
            if index in self.broken:
                span = Span(file=f"images/{index:04d}.png")
                raise QS901.error("broken image", span=span)
            return super().sample(index, rng)

    return Broken


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named(broken_set, workers):
    loader = Loader(broken_set([5]), batch_size=4, seed=0, workers=workers, skip_broken=False)
    with pytest.raises(DiagnosticError) as caught:
        list(loader.ordered())
    assert caught.value.diagnostics[0].span.file == "images/0005.png"


@pytest.mark.parametrize("workers", [0, 2])
def test_broken_images_are_left_out_and_told_of(broken_set, toy_set, workers):
    told = []
    data = broken_set([4, 5, 6, 7, 19])
    loader = Loader(data, batch_size=4, seed=0, workers=workers, warn=told.append)
    whole = [m["id"] for b in loader.ordered() for m in b.metas]
    assert whole == [i for i in range(20) if i not in data.broken]
    assert [(d.severity, d.span.file) for d in told] == [
        ("warning", f"images/{i:04d}.png") for i in data.broken
    ]
    assert "broken: error" in told[0].help

    plain = [m["id"] for b in Loader(toy_set(), batch_size=4, seed=0).shuffled(3) for m in b.metas]
    seen = [m["id"] for b in loader.shuffled(3) for m in b.metas]
    assert seen == [{19: 0}.get(i, 8 if i in data.broken else i) for i in plain]


def test_nothing_but_broken_images_is_fatal(broken_set):
    loader = Loader(broken_set(range(20)), batch_size=4, seed=0)
    for batches in (loader.ordered(), loader.shuffled(0)):
        with pytest.raises(DiagnosticError, match="broken image"):
            list(batches)


def test_devices():
    assert pick_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "tpu", "cuda:x"):
        with pytest.raises(DiagnosticError, match=f"device `{name}` is not available"):
            pick_device(name)


def test_seeds_differ_by_stage():
    first = make_repeatable(0, "float")
    drawn = torch.rand(2)
    assert make_repeatable(0, "qat") != first
    assert make_repeatable(0, "float") == first
    assert torch.equal(torch.rand(2), drawn)


@pytest.mark.parametrize("kind", ["lsq", "pact"])
def test_learned_scales_are_not_decayed(kind):
    spec = {"fake_quant": kind}
    qconfig = {"": {"activation": spec, "weight": {**spec, "ch_axis": 0}}}
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    model = prepare(net, (torch.zeros(1, 3, 4, 4),), qconfig=qconfig).model
    decayed, free = build_optimizer(
        model, part("optimizer", "sgd", lr=0.1, weight_decay=0.5)
    ).param_groups
    scales = [m.scale for m in model.modules() if isinstance(m, LearnedFakeQuantize)]
    assert len(scales) == 5  # the input's, two weights', two results'
    weights = [model.get_parameter(f"{path}.weight") for path in ("0", "3")]
    assert {id(p) for p in decayed["params"]} == {id(p) for p in weights}
    assert {id(s) for s in scales} <= {id(p) for p in free["params"]}
