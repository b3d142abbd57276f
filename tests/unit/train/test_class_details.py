"""What an evaluation tells of the classes beside the metrics."""

from __future__ import annotations

import pytest
import torch

from qatspec.train.evaluate import evaluate
from qatspec.train.loader import Loader


@pytest.fixture
def told(toy_net, toy_set):
    """told(details) evaluates a set with this `details`: the metrics, and what was told."""

    def told(details):
        class Detailed(toy_set):
            pass

        Detailed.details = details
        net, heard = toy_net().eval(), []
        metrics = evaluate(
            net, net.predict, Loader(Detailed(), batch_size=8, seed=0),
            device=torch.device("cpu"), tell=lambda *said: heard.append(said),
        )  # fmt: skip
        return metrics, heard

    return told


def test_details_are_told_with_the_metrics_of_the_same_predictions(told):
    metrics, heard = told(lambda self, predictions: {"seen": len(predictions)})
    assert heard == [({"seen": 20}, metrics, 20)]


def test_an_error_in_details_does_not_end_the_training(told):
    def details(self, predictions):
        raise ZeroDivisionError

    metrics, heard = told(details)
    assert metrics.keys() == {"accuracy"} and heard == []


def test_a_set_without_details_tells_none(toy_net, toy_set):
    net, heard = toy_net().eval(), []
    loader = Loader(toy_set(), batch_size=8, seed=0)
    device = torch.device("cpu")
    evaluate(net, net.predict, loader, device=device, tell=lambda *said: heard.append(said))
    assert heard == []
