"""What `infer` writes of each task: an entry of predictions.json and a drawing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from qatspec.cli.present import present
from qatspec.report.draw import PALETTE

GREY = (100, 100, 100)


class Doubled:
    """A set whose pictures are twice as large as the model's input."""

    classes = ("road", "sky", "car")

    def restore(self, meta: dict[str, Any], boxes: np.ndarray) -> np.ndarray:
        return boxes * 2

    def restore_mask(self, meta: dict[str, Any], mask: np.ndarray) -> np.ndarray:
        return mask.repeat(2, 0).repeat(2, 1)


@pytest.fixture
def shown(tmp_path: Path):
    """shown(prediction, drawn?) -> the entry, and the drawing's pixels (None where there is
    none)."""
    picture = tmp_path / "a.jpeg"
    Image.new("RGB", (80, 60), GREY).save(picture, "PNG")

    def call(prediction: dict[str, Any], *, drawn: bool = True) -> tuple[dict[str, Any], Any]:
        arrays = {name: np.asarray(value) for name, value in prediction.items()}
        meta = {"id": "a"} if drawn else {}
        entry = present(
            arrays, Doubled(), meta, picture if drawn else None, tmp_path / "out" / "a.b", 0.3
        )
        target = tmp_path / "out" / "a.b.png"
        return entry, np.asarray(Image.open(target)).astype(int) if target.exists() else None

    return call


def test_boxes_above_the_score_are_drawn_and_all_are_told(shown) -> None:
    given = {"boxes": [[5.0, 15, 15, 25], [20, 5, 35, 10]], "scores": [0.9, 0.1], "labels": [2, 0]}
    entry, pixels = shown(given)
    assert entry["boxes"] == [[10, 30, 30, 50], [40, 10, 70, 20]]
    assert entry["names"] == ["car", "road"]
    colour = [int(PALETTE[2][i : i + 2], 16) for i in (1, 3, 5)]
    assert pixels[50, 20].tolist() == colour, "the lower edge of the sure one"
    assert pixels[40, 20].tolist() == list(GREY)
    assert (pixels[10:21, 40:71] == GREY).all(), "the unsure one is not drawn"
    assert (pixels[:18] == GREY).all() and (pixels[20:29, 10:30] != GREY).any(), "name over box"
    entry, pixels = shown(given, drawn=False)
    assert entry["boxes"] == given["boxes"]


def test_a_segmentation_is_laid_over_its_picture(shown, tmp_path: Path) -> None:
    mask = np.zeros((30, 40), np.uint8)
    mask[:, 20:] = 1
    entry, pixels = shown({"mask": mask})
    assert entry == {"mask": "a.b-mask.png", "shares": {"road": 0.5, "sky": 0.5}}
    written = np.asarray(Image.open(tmp_path / "out" / "a.b-mask.png"))
    assert written.shape == (60, 80) and written.dtype == np.uint8
    assert set(written[:, :40].flat) == {0} and set(written[:, 40:].flat) == {1}
    for x, label in ((35, 0), (75, 1)):
        colour = np.array([int(PALETTE[label][i : i + 2], 16) for i in (1, 3, 5)])
        assert np.abs(pixels[55, x] - (colour + GREY) / 2).max() <= 1


def test_a_classification_tells_the_five_best(shown) -> None:
    scores = np.array([0.1, 0.3, 0.05, 0.25, 0.2, 0.07, 0.03], np.float32)
    entry, pixels = shown({"scores": scores, "label": 1})
    assert [(b["label"], b["name"]) for b in entry["best"]] == [
        (1, "sky"), (3, "3"), (4, "4"), (0, "road"), (5, "5"),
    ]  # fmt: skip
    assert entry["best"][0]["score"] == pytest.approx(0.3)
    written = (pixels != GREY).any(axis=(1, 2))
    height = int(written.sum())
    assert written[:height].all() and 40 <= height < 60, "five lines, one below the other"


def test_other_tasks_and_arrays(shown) -> None:
    assert shown({"label": 1}) == ({"label": 1}, None)
    entry, pixels = shown({"mask": np.zeros((4, 6), np.uint8)}, drawn=False)
    assert entry["shares"] == {"road": 1.0} and pixels is None
