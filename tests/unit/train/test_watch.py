from __future__ import annotations

import random

import pytest
import torch

from qatspec.spec import Trainer
from qatspec.spec.model import EarlyStop
from qatspec.train.watch import Watch
from tests.trainers import part


def watch(early_stop=None, **plateau) -> Watch:
    scheduler = part("scheduler", "plateau", **plateau) if plateau else part("scheduler", "cosine")
    return Watch(Trainer(epochs=1, early_stop=early_stop, scheduler=scheduler))


@pytest.mark.parametrize("seed", range(5))
def test_a_plateau_is_torchs(seed):
    rng = random.Random(seed)
    settings = {"factor": 0.5, "patience": rng.randint(0, 3), "min_delta": rng.choice([0.0, 2.0])}
    mine = watch(**settings, min_factor=0.1)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, mode="max", factor=0.5, patience=settings["patience"], min_lr=0.1,
        threshold=settings["min_delta"], threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    for number in range(40):
        metric = min(number, 20) + rng.uniform(0, 10)
        mine.see(metric), theirs.step(metric)
        assert mine.factor == optimizer.param_groups[0]["lr"]
        mine.load_state_dict(mine.state_dict())
    assert mine.factor < 1.0


def test_training_ends_after_so_many_evaluations_without_an_improvement():
    watched = watch(EarlyStop(patience=2, min_delta=1.0))
    ended = []
    for metric in (10.0, 9.0, 11.5, 12.0, 12.5):
        watched.see(metric)
        ended.append(watched.ended)
        again = watch(EarlyStop(patience=2, min_delta=1.0))
        again.load_state_dict(watched.state_dict())
        watched = again
    assert ended == [False, False, False, False, True]


def test_nothing_is_watched_by_default():
    watched = watch()
    for _ in range(9):
        watched.see(0.0)
    assert (watched.ended, watched.factor, watched.state_dict()) == (False, 1.0, {})
