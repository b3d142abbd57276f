"""The tutorial's advice where the run shows whether it is followed."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qatspec.engine.advice import Adviser
from qatspec.stages.advice import of_batch
from qatspec.train.loader import Batch


@pytest.fixture(scope="module")
def spec(finished):
    return finished.load()


def adviser(spec, of_float):
    return Adviser(spec, "accuracy", of_float, torch.device("cpu"))


def told(watcher, *values):
    advice = []
    for epoch, value in enumerate(values, 1):
        advice += watcher.hear("metrics", {"epoch": epoch, "step": epoch, "accuracy": value})
    return advice


def test_a_first_epoch_far_below_float(spec):
    (advice,) = told(adviser(spec, 60.0), 56.9, 58.0)
    assert "56.90 accuracy, float 60.00" in advice.advice and advice.at == "/stages/qat"
    assert told(adviser(spec, 60.0), 57.1) == []
    assert told(adviser(spec, None), 1.0) == []
    resumed = adviser(spec, 60.0)  # in its second epoch
    assert list(resumed.hear("metrics", {"epoch": 2, "step": 8, "accuracy": 10.0})) == []


def test_another_float_checkpoint_where_qat_ends_below(spec):
    below = adviser(spec, 60.0)
    told(below, 58.0, 58.5, 57.0)
    (advice,) = below.finished()
    assert "`init_from: [best, last]` in stage qat" in advice.advice
    assert advice.at == "/stages/qat/init_from"
    assert "1.50 below float" in advice.advice
    near = adviser(spec, 60.0)
    told(near, 58.0, 59.5)
    assert list(near.finished()) == [] and list(adviser(spec, 60.0).finished()) == []


def test_an_empty_gpu(spec, monkeypatch):
    properties = SimpleNamespace(total_memory=100)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    for used, count in ((20, 1), (80, 0)):
        watcher = Adviser(spec, "accuracy", 60.0, torch.device("cuda"))
        list(watcher.hear("resources", {"device_memory_bytes": used}))
        advice = told(watcher, 60.0)
        assert len(advice) == count
        assert all("20% of the GPU" in one.advice for one in advice)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda rng: rng.normal(0.2, 1, 4000), []),
        (lambda rng: rng.uniform(0, 1, 4000), ["mean of 0"]),
        (lambda rng: np.where(rng.random(4000) < 0.01, 40, rng.normal(0, 1, 4000)), ["long tail"]),
    ],
)
def test_the_distribution_of_inputs(spec, make, words):
    values = torch.from_numpy(make(np.random.default_rng(0)))
    advice = of_batch(spec.inputs, Batch((values,), [], []))
    assert len(advice) == len(words)
    for one, word in zip(advice, words, strict=True):
        assert word in one.advice and one.at == "/model/input/mean"


def test_a_run_shows_advice_with_its_line(project):
    project.edit("lr: 0.001", "lr: 0.5")
    project.run("stages.float.trainer.epochs=1", step="qat", with_deps=True)
    (event,) = [e for e in project.events if e.kind == "advice" and e.data["at"].endswith("/lr")]
    line = int(event.data["place"].rpartition(":")[2])
    assert "lr: 0.5" in project.spec.read_text().splitlines()[line - 1]
    order = [e.kind for e in project.events]
    assert order.index("advice") < order.index("step_started")
    log = (project.workdir / "logs/run.log").read_text()
    assert "advice: start from a learning rate near 0.001 (it is 0.5)" in log
    call = project.call("check", "toy.yaml", "--allow-code", "--workdir", "work")
    assert "advice for qat" in call.stdout and f"toy.yaml:{line}: start from" in call.stdout
