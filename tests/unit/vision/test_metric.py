"""COCO's average precision by hotcoco, where there is one, and by pycocotools, to the last bit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import evaluation
import numpy as np
import pytest
from evaluation import Case, expected, made
from hypothesis import given, settings, strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from qatspec_vision.data import metric
from qatspec_vision.data.metric import Detections, Objects, average_precision, by_class

from tests.unit.vision.test_coco import annotation, open_set, write_set


def ours(case: Case) -> dict[str, float]:
    return average_precision(case.true, case.found, case.classes)


def one_picture(true: list[list[float]], found: list[list[float]]) -> Case:
    """Objects, and detections of falling scores, of one class in one picture."""
    boxes = np.array(true, np.float64)
    zeros = np.zeros(len(found), np.int64)
    return Case(
        Objects(
            zeros[: len(true)], zeros[: len(true)], boxes, boxes[:, 2] * boxes[:, 3],
            np.zeros(len(true), bool),
        ),
        Detections(zeros, zeros, np.array(found, np.float64), np.linspace(0.9, 0.1, len(found))),
        images=1, classes=1,
    )  # fmt: skip


def without_hotcoco(call: Callable[[], Any]) -> Any:
    """What `call` returns where pycocotools alone is installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metric, "COCO", COCO)
        patch.setattr(metric, "COCOeval", COCOeval)
        return call()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6), images=st.integers(1, 8), classes=st.integers(1, 4),
    objects=st.sampled_from([0.0, 0.3, 2.0, 8.0]), detections=st.sampled_from([0, 1, 5, 40, 250]),
)  # fmt: skip
def test_every_statistic_is_that_of_pycocotools(
    seed: int, images: int, classes: int, objects: float, detections: int
) -> None:
    """Crowds, equal boxes and scores, areas on a border, more detections than count, pictures and
    classes without objects or detections."""
    case = made(seed, images, classes, objects, detections)
    assert ours(case) == without_hotcoco(lambda: ours(case)) == expected(case)
    names = tuple(map(str, range(classes)))
    details = by_class(case.true, case.found, names)
    assert details == without_hotcoco(lambda: by_class(case.true, case.found, names))


def test_one_detection_of_one_object_is_short_of_100_by_the_last_bit() -> None:
    """1 / (1 + 2**-52), as pycocotools has it; faster-coco-eval has 1."""
    case = one_picture([[1.0, 2, 30, 40]], [[1.0, 2, 30, 40]])
    assert ours(case) == expected(case)
    assert ours(case)["AP"] == 100 * (1 - 2**-52)


def test_of_equal_ious_the_last_object_is_taken() -> None:
    """The first detection overlaps both objects alike; the second one only the last."""
    left, middle, right = ([x, 0.0, 10, 10] for x in (8, 10, 12))
    case = one_picture([left, right], [middle, right])
    assert ours(case) == expected(case)
    assert ours(case) != ours(one_picture([right, left], [middle, right]))


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
def test_scores_that_are_no_numbers(number: float) -> None:
    case = made(5, images=6, classes=3, objects=4, detections=20)
    case.found.score[::3] = number
    assert ours(case) == without_hotcoco(lambda: ours(case)) == expected(case)


@pytest.mark.parametrize("before", [98, 99, 100])
def test_a_hundred_detections_of_a_class_count(before: int) -> None:
    hit, miss = [0.0, 0, 10, 10], [500.0, 500, 10, 10]
    case = one_picture([hit], [miss] * before + [hit])
    assert ours(case) == expected(case)
    assert (ours(case)["AP"] > 0) == (before < 100)


def test_a_set_of_many_pictures() -> None:
    case = made(1, images=200, classes=20, objects=5, detections=30)
    assert ours(case) == expected(case)


def test_a_data_set_gives_what_its_files_say(tmp_path: Path) -> None:
    """Ids with gaps and not in order, a crowd, an area, and boxes of the model's input."""
    rows = [
        annotation(2, 7, [20, 5, 10, 10], id=4), annotation(2, 3, [0, 0, 8, 4], id=9, iscrowd=1),
        annotation(5, 3, [3, 6, 12, 9], id=1, area=2000), annotation(5, 3, [1, 1, 9, 9], id=3),
    ]  # fmt: skip
    write_set(tmp_path / "set", annotations=rows)
    data = open_set(tmp_path)
    rng = np.random.default_rng(0)
    predictions: list[tuple[Any, Any]] = []
    image, label, box, score = [], [], [], []
    for index in range(len(data)):
        meta = data.sample(index, rng).meta
        near = [row for row in rows if row["image_id"] == meta["id"]] * 4
        corners = np.array([row["bbox"] for row in near], np.float64)
        corners[:, 2:] += corners[:, :2]
        corners = (corners + rng.normal(size=corners.shape)).clip(0, 20)
        scale = np.array([meta["scale_x"], meta["scale_y"]] * 2)
        fed = corners * scale + np.array([meta["x"], meta["y"]] * 2)
        labels = np.array([[3, 7].index(row["category_id"]) for row in near])
        scores = rng.random(len(near)).round(1)
        predictions.append((meta, {"boxes": fed, "labels": labels, "scores": scores}))
        restored = data.restore(meta, fed)
        image += [[2, 5].index(meta["id"])] * len(near)
        label += labels.tolist()
        box += np.concatenate([restored[:, :2], restored[:, 2:] - restored[:, :2]], 1).tolist()
        score += scores.tolist()
    true = Objects(
        np.array([0, 0, 1, 1]), np.array([1, 0, 0, 0]),
        np.array([row["bbox"] for row in rows], np.float64),
        np.array([100.0, 32, 2000, 81]), np.array([False, True, False, False]),
    )  # fmt: skip
    found = Detections(np.array(image), np.array(label), np.array(box), np.array(score))
    case = Case(true, found, images=2, classes=2)
    assert data.evaluate(predictions[::-1]) == data.evaluate(predictions) == expected(case)


def test_the_program_prints_a_row_for_each_evaluator(
    capsys: pytest.CaptureFixture[str],
) -> None:
    evaluation.compare("made", made(0, images=20, classes=3, objects=3, detections=10))
    rows = capsys.readouterr().out.splitlines()[3:]
    assert [row.split(" | ")[0] for row in rows[:2]] == ["| pycocotools", "| qatspec"]
    assert all(row.endswith("| 0.0e+00 |") for row in rows[:2])
