"""What data sets tell of each class agrees with their metrics."""

from __future__ import annotations

import numpy as np
import pytest
from qatspec_vision.data.iou import Confusion
from qatspec_vision.data.metric import Detections, Objects, average_precision, by_class


def test_ap_is_the_mean_of_the_classes():
    rng = np.random.default_rng(3)
    image, label = np.sort(rng.integers(0, 6, 60)), rng.integers(0, 3, 60)
    box = np.column_stack([rng.uniform(0, 50, (60, 2)), rng.uniform(20, 60, (60, 2))])
    true = Objects(image, label, box, box[:, 2] * box[:, 3], np.zeros(60, bool))
    moved = box + rng.normal(0, 4, box.shape)
    found = Detections(image, label, moved, rng.uniform(0, 1, 60))
    metrics = average_precision(true, found, 4)
    told = by_class(true, found, ("a", "b", "c", "never there"))
    assert set(told["classes"]) == set(told["curves"]) == {"a", "b", "c"}
    for name in ("AP", "AP50"):
        assert np.mean([row[name] for row in told["classes"].values()]) == pytest.approx(
            metrics[name]
        )
    recalls, precisions = zip(*told["curves"]["a"], strict=True)
    assert (recalls[0], recalls[-1]) == (0, 1)
    assert 100 * np.mean(precisions) == pytest.approx(told["classes"]["a"]["AP50"], abs=0.01)


def test_counts_are_true_by_predicted():
    confusion = Confusion(2)
    confusion.add(np.array([[0, 1, 255]]), np.array([[1, 1, 0]]))
    confusion.add(np.array([[0]]), np.array([[7]]))
    assert confusion.counts.tolist() == [[0, 1, 1], [0, 1, 0]]


def test_a_folder_of_classes_tells_precision_and_recall():
    from qatspec_vision.data.imagefolder import ImageFolder

    folder = ImageFolder.__new__(ImageFolder)
    folder.classes = ("cat", "dog", "emu")
    scores = {0: [0.9, 0.1, 0], 1: [0.6, 0.4, 0], 2: [0.1, 0.9, 0]}
    predictions = [({"label": min(i, 1)}, {"scores": np.array(s)}) for i, s in scores.items()]
    told = folder.details(predictions)
    assert told["confusion"] == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
    assert told["classes"] == {
        "cat": {"recall": 100.0, "precision": 50.0},
        "dog": {"recall": 50.0, "precision": 100.0},
        "emu": {},
    }
