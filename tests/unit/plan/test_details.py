"""What a data set tells of its classes, kept of the best validation of a step."""

from __future__ import annotations

import pytest

from qatspec.plan.details import details_path, keep_details, read_details


def told(accuracy, images=4, **details):
    return {
        "metric": "accuracy", "metrics": {"accuracy": accuracy, "loss": 1.0}, "images": images,
        "details": {"classes": {"a": {"recall": accuracy}}, **details},
    }  # fmt: skip


@pytest.fixture
def kept(tmp_path):
    """kept(digest, accuracy) keeps a validation and gives the accuracy that the file is of."""

    def kept(digest, accuracy):
        keep_details(tmp_path, "float", digest, told(accuracy))
        return read_details(details_path(tmp_path, "float"))["metrics"]["accuracy"]

    return kept


def test_the_first_of_the_best_validations_is_kept(kept, tmp_path):
    assert [kept("one", accuracy) for accuracy in (50.0, 80.0, 60.0)] == [50.0, 80.0, 80.0]
    keep_details(tmp_path, "float", "one", told(80.0, images=9))
    assert read_details(details_path(tmp_path, "float"))["images"] == 4
    assert kept("another step", 20.0) == 20.0


@pytest.mark.parametrize(
    "text", ["", "[]", '{"digest": "one"}', '{"digest": 1, "metrics": {}, "images": 1}',
             '{"digest": "one", "metrics": {"accuracy": "x"}, "images": 1, "details": {}}'],
)  # fmt: skip
def test_a_damaged_file_is_replaced(kept, tmp_path, text):
    path = details_path(tmp_path, "float")
    path.parent.mkdir()
    path.write_text(text)
    assert read_details(path) is None
    assert kept("one", 10.0) == 10.0


def test_what_json_cannot_hold_leaves_the_earlier_file(kept, tmp_path):
    kept("one", 10.0)
    for value in (object(), float("nan")):
        with pytest.raises((TypeError, ValueError)):
            keep_details(tmp_path, "float", "one", told(90.0, more=value))
    assert read_details(details_path(tmp_path, "float"))["metrics"]["accuracy"] == 10.0
